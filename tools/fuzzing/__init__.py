"""Hostile model files: how they are made (``mutation``, ``bombs``), and what must hold for each of them (``targets``)."""
