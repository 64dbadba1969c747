"""Real photos without a download: those scikit-image and scikit-learn carry in their wheels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SIZE = 224
MARGIN = 0.875  # the part of the shorter side that the network was trained to look at


@cache
def photos() -> dict[str, Tensor]:
    """Name -> [1, 3, H, W], 0..255."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    images = {
        "astronaut": data.astronaut(),
        "camera": data.camera(),
        "cat": data.chelsea(),
        "china": load_sample_image("china.jpg"),
        "coffee": data.coffee(),
        "flower": load_sample_image("flower.jpg"),
        "motorcycle": data.stereo_motorcycle()[0],
        "rocket": data.rocket(),
    }
    return {name: _tensor(image) for name, image in images.items()}


def _tensor(image: np.ndarray) -> Tensor:
    rgb = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
    return torch.tensor(rgb, dtype=torch.float32).permute(2, 0, 1)[None].contiguous()


def crop(photo: Tensor, down: float = 0.5, right: float = 0.5, part: float = MARGIN, size: int = SIZE) -> Tensor:
    """A square of ``part`` of the shorter side, ``down`` and ``right`` in it (0..1), as the network wants it: (x - 127) / 128."""
    height, width = photo.shape[2:]
    side = int(part * min(height, width))
    top, left = int(down * (height - side)), int(right * (width - side))
    square = photo[:, :, top : top + side, left : left + side]
    return ((interpolate(square, (size, size), mode="bilinear", antialias=True).clamp(0, 255) - 127) / 128).contiguous()


def for_test(size: int = SIZE) -> dict[str, Tensor]:
    return {name: crop(photo, size=size) for name, photo in photos().items()}


def for_calibration(size: int = SIZE) -> Iterator[Tensor]:
    """Of each photo other views than the test sees: the whole square, and four closer ones, every second mirrored."""
    places = [(0.5, 0.5, 1.0), (0.1, 0.2, 0.7), (0.2, 0.9, 0.7), (0.9, 0.1, 0.7), (0.8, 0.8, 0.7)]
    for photo in photos().values():
        views = [crop(photo, *place, size) for place in places]
        yield torch.cat([view.flip(3) if index % 2 else view for index, view in enumerate(views)])
