"""An environment for each peer, made when it is first needed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What the networks of tests/ need; torchvision without its dependencies, or it would choose a torch of its own.
NETWORKS = ("scikit-image", "scikit-learn", "pillow")
PACKAGES: Mapping[str, Sequence[str]] = {
    "ours": (),
    "tico": ("tico==0.3.0", "torchao==0.18.0"),
    "litert-torch": ("litert-torch==0.10.0",),
    # What its requirements.txt asks for, but for numpy below 2, which has no wheels that fit the others.
    "tinynn": ("PyYAML", "ruamel.yaml<0.18", "igraph", "flatbuffers", "six"),
}
"""torch is the one of constraints.txt, as for the tests."""


def python_of(peer: str, folder: Path, tinynn: Path | None = None) -> Path:
    """The interpreter of the environment for ``peer`` below ``folder``, which is made if it is not there.

    Args:
        tinynn: a checkout of TinyNeuralNetwork, which is not on PyPI; it is read where it is.

    Raises:
        LookupError: it cannot be made.
    """
    if peer == "ours":
        return Path(sys.executable)
    if peer == "tinynn" and (tinynn is None or not (tinynn / "tinynn").is_dir()):
        raise LookupError("--tinynn names no checkout of it")
    home = folder.resolve() / peer
    python, whole = home / "bin" / "python", home / ".installed"
    if not whole.exists():
        print(f"making {home}", file=sys.stderr, flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, stdout=sys.stderr)
            constraints = home / "torch.txt"
            constraints.write_text("".join(re.findall(r"^torch==.*\n", (ROOT / "constraints.txt").read_text(), re.MULTILINE)))
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "-c", str(constraints), "torch", *NETWORKS, *PACKAGES[peer]], check=True, stdout=sys.stderr)
            vision = re.search(r"^TORCHVISION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert vision is not None
            subprocess.run([*pip, "--no-deps", f"torchvision=={vision[1]}"], check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LookupError(f"its environment cannot be made: {error}") from error
        whole.touch()
    if tinynn is not None and peer == "tinynn":
        (next(home.glob("lib/python*/site-packages")) / "checkout.pth").write_text(f"{tinynn.resolve()}\n")
    return python
