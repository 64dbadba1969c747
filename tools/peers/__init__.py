"""Other exporters, each in an environment of its own, on the same models: see ``compare.py``."""
