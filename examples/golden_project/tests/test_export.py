"""What is shipped is what was accepted: ``golden/`` has the files, and beside each of them its text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torch2circle

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def exported() -> torch2circle.ExportedModel:
    images = torch.from_numpy(np.load(PROJECT / "digits.npy"))
    return torch2circle.export(torch2circle.load(PROJECT / "digits.pt"), (images,))


def test_for_onert(circle_golden, exported):
    circle_golden(exported, "digits.circle", verify=True)  # the file is run, too, and compared with PyTorch operator by operator


def test_for_litert(circle_golden, exported):
    circle_golden(exported, "digits.tflite", verify=True)


def test_for_the_toolchain(circle_golden, exported):
    circle_golden(exported, "digits_one.circle", target="one")
