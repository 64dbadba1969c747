"""EfficientNet-Lite0, from trained weights to integers to .circle and .tflite."""
