"""A small network for handwritten digits, trained with its quantization, exported and counted in both runtimes."""
