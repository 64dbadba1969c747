"""Draw the figures of docs/concepts. What they show is computed, not sketched.

    python tools/figures.py            write docs/figures/*.svg
    python tools/figures.py --check    exit with 1 if one of them is stale
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

FOLDER = Path(__file__).parents[1] / "docs" / "figures"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "torch2circle",  # the same bytes each time
    "svg.fonttype": "none",  # letters stay letters: small, and in the reader's font
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
BLUE, ORANGE, GREEN, GRAY = "#1f5fa8", "#d9730d", "#2f8f4e", "#8a8f98"
MULTIPLIER = 0.0061803  # input scale * weight scale / result scale of the layer in the figures
Numbers = Any  # an array; numpy's stubs know no more of these expressions
FIGURES: dict[str, Callable[[], Any]] = {}


def figure(draw: Callable[[], Any]) -> Callable[[], Any]:
    FIGURES[draw.__name__] = draw
    return draw


def quantized(x: Numbers, scale: float, zero_point: int, low: int = 0, high: int = 255) -> Numbers:
    return np.clip(np.rint(x / scale) + zero_point, low, high)


@figure
def staircase() -> Any:
    """Real numbers and what 3 bits make of them: eight integers are few enough to be seen."""
    scale, zero_point = 0.5, 3
    x = np.linspace(-2.6, 3.1, 2000)
    q = quantized(x, scale, zero_point, 0, 7)
    real = scale * (q - zero_point)
    fig, (stairs, error) = plt.subplots(2, 1, figsize=(6.6, 5.2), sharex=True, height_ratios=[3, 1])
    stairs.plot(x, x, color=GRAY, linewidth=1, label="the real number")
    stairs.plot(x, real, color=BLUE, label="scale × (q − zero point)")
    stairs.plot([0], [0], "o", color=ORANGE)
    stairs.annotate("0 is exact: q = zero point = 3", (0, 0), (0.5, -0.75), arrowprops={"arrowstyle": "-", "color": ORANGE}, color=ORANGE)
    stairs.annotate("", (0.75, 1.5), (0.75, 1.0), arrowprops={"arrowstyle": "<->", "color": BLUE})
    stairs.text(0.62, 1.42, "1 LSB = scale", color=BLUE, ha="right", va="top")
    stairs.text(2.3, 1.72, "saturates at q = 7", color=BLUE, va="top")
    stairs.text(-2.6, -1.38, "saturates at q = 0", color=BLUE, va="bottom")
    stairs.set_ylabel("kept")
    stairs.set_yticks(scale * (np.arange(8) - zero_point), [f"q = {i}" for i in range(8)])
    stairs.legend(frameon=False, loc="upper left")
    error.plot(x, (real - x) / scale, color=BLUE)
    error.axhspan(-0.5, 0.5, color=GREEN, alpha=0.15, linewidth=0)
    error.set_ylim(-1.3, 1.3)
    error.set_ylabel("error in LSB")
    error.set_xlabel("real number")
    return fig


@figure
def flavours() -> Any:
    """One tensor in uint8 and in int8: the same real numbers, integers and zero point 128 apart."""
    scale, zero_point = 0.02, 114
    fig, axis = plt.subplots(figsize=(7.2, 2.6))
    low, high = -scale * zero_point, scale * (255 - zero_point)
    for y, name, shift, color in ((1.0, "uint8", 0, BLUE), (0.0, "int8", -128, ORANGE)):
        axis.plot([low, high], [y, y], color=color, linewidth=2)
        for q in (0, 64, zero_point, 192, 255):
            x = scale * (q - zero_point)
            axis.plot([x, x], [y - 0.07, y + 0.07], color=color)
            note = " = zero point" if q == zero_point else ""
            axis.text(x, y + 0.13, f"{q + shift}{note}", ha="center", color=color, weight="bold" if note else "normal")
            axis.plot([x, x], [0.32, 0.93], color=GRAY, linewidth=0.7, linestyle=":")
        axis.text(low - 0.35, y, name, ha="right", va="center", color=color, weight="bold")
    for q in (0, 64, zero_point, 192, 255):
        x = scale * (q - zero_point)
        axis.text(x, -0.33, f"{x:.2f}", ha="center", color=GRAY)
    axis.text(low - 0.35, -0.33, "real", ha="right", color=GRAY)
    axis.text((low + high) / 2 + 1.05, 0.55, "− 128", color=GRAY, ha="center")
    axis.set_xlim(low - 1, high + 0.25)
    axis.set_ylim(-0.5, 1.4)
    axis.axis("off")
    return fig


def _box(axis: Any, x: float, y: float, width: float, text: str, color: str = BLUE, height: float = 0.62) -> None:
    shape = FancyBboxPatch((x, y - height / 2), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", fill=False, edgecolor=color)
    axis.add_patch(shape)
    axis.text(x + width / 2, y, text, ha="center", va="center", color="black", fontsize=9)


def _arrow(axis: Any, start: tuple[float, float], end: tuple[float, float], color: str = GRAY) -> None:
    axis.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "shrinkA": 2, "shrinkB": 2})


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    fig, axis = plt.subplots(figsize=(width, height))
    axis.set_xlim(0, width)
    axis.set_ylim(0, height)
    axis.axis("off")
    return fig, axis


@figure
def bias() -> Any:
    """Where a bias goes: into the sum, on the sum's grid, long before the result is rounded to 8 bits."""
    fig, axis = _canvas(8.4, 2.5)
    _box(axis, 0.1, 1.9, 1.5, "input\n8 bits, scale $s_x$")
    _box(axis, 0.1, 1.1, 1.5, "weight\n8 bits, scale $s_w$")
    _box(axis, 0.1, 0.35, 1.5, "bias\nfloat32", ORANGE)
    _box(axis, 2.1, 0.35, 1.7, "round(bias / $s_x s_w$)\nint32, zero point 0", ORANGE)
    _box(axis, 4.3, 1.5, 1.6, "sum of products\nint32, scale $s_x s_w$")
    _box(axis, 6.6, 1.5, 1.6, "round(sum × $s_x s_w / s_y$)\n8 bits, scale $s_y$", GREEN)
    _arrow(axis, (1.62, 1.9), (4.28, 1.62))
    _arrow(axis, (1.62, 1.1), (4.28, 1.42))
    _arrow(axis, (1.62, 0.35), (2.08, 0.35), ORANGE)
    _arrow(axis, (3.82, 0.45), (4.6, 1.17), ORANGE)
    _arrow(axis, (5.92, 1.5), (6.58, 1.5))
    return fig


@figure
def bias_grid() -> Any:
    """How fine the bias's grid is, for a scale of each channel; from some scale on, an int32 is too short."""
    s_x, s_y, b = 0.02, 0.05, 1.5
    s_w = np.logspace(-12, -1, 400)
    fig, axis = plt.subplots(figsize=(6.6, 3.4))
    axis.loglog(s_w, np.abs(b) / (s_x * s_w), color=BLUE, label=f"bias {b} as an integer, input scale {s_x}")
    axis.axhline(2**31 - 1, color=ORANGE, linewidth=1)
    axis.text(3e-2, 2.0**31 * 1.6, "2³¹ − 1", color=ORANGE, ha="right", va="bottom")
    limit = b / (s_x * (2**31 - 1))
    axis.axvspan(s_w[0], limit, color=ORANGE, alpha=0.12, linewidth=0)
    axis.text(np.sqrt(s_w[0] * limit), 2e3, "does not fit:\nthe weight scale\nis raised", ha="center", color=ORANGE)
    axis.text(1e-5, 2e3, f"rounding the bias costs at most\n{0.5 * s_x * 1e-5 / s_y:.0e} LSB of the result here", ha="center", color=BLUE)
    axis.set_xlim(s_w[0], s_w[-1])
    axis.set_xlabel("weight scale of the channel")
    axis.set_ylabel("bias / (input scale × weight scale)")
    axis.legend(frameon=False, loc="upper right")
    return fig


def layer(count: int = 400_000) -> tuple[Numbers, Numbers, float]:
    """Sums of a layer as they are before the result is rounded: int32 sums, float biases in their steps, and the multiplier."""
    random = np.random.default_rng(0)
    sums = random.normal(0, 4000, count).round().astype(np.int64)
    biases = random.normal(0, 800, count)
    return sums, biases, MULTIPLIER


def once(sums: Numbers, biases: Numbers, multiplier: float) -> Numbers:
    """FBGEMM: the bias is added in float32, one rounding, ties to even."""
    return np.clip(np.rint((sums.astype(np.float32) + biases.astype(np.float32)) * np.float32(multiplier)) + 128, 0, 255)


def xnnpack(sums: Numbers, biases: Numbers, multiplier: float) -> Numbers:
    """LiteRT with XNNPACK: the bias is rounded to int32, then one rounding in float32."""
    return np.clip(np.rint((sums + np.rint(biases).astype(np.int64)).astype(np.float32) * np.float32(multiplier)) + 128, 0, 255)


def twice(sums: Numbers, biases: Numbers, multiplier: float) -> Numbers:
    """onert: a 31-bit multiplier and a shift, each rounded (gemmlowp's scheme, halves away from zero)."""
    mantissa, exponent = np.frexp(multiplier)
    fixed, total = round(mantissa * 2**31), sums + np.rint(biases).astype(np.int64)
    high = (total * fixed + (1 << 30)) >> 31
    shift = -int(exponent)
    mask, half = (1 << shift) - 1, 1 << (shift - 1)
    rounded = (high >> shift) + ((high & mask) > half - 1 + (high < 0))
    return np.clip(rounded + 128, 0, 255)


@figure
def lsb() -> Any:
    """Two right ways of computing one layer, subtracted from each other."""
    sums, biases, multiplier = layer()
    reference = once(sums, biases, multiplier)
    fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.0), sharey=True)
    for axis, title, made in (
        (axes[0], "LiteRT's formula − FBGEMM's", xnnpack(sums, biases, multiplier)),
        (axes[1], "onert's formula − FBGEMM's", twice(sums, biases, multiplier)),
    ):
        off = (made - reference).astype(int)
        shares = [100 * float((off == step).mean()) for step in (-2, -1, 0, 1, 2)]
        axis.bar([-2, -1, 0, 1, 2], shares, color=[ORANGE, ORANGE, BLUE, ORANGE, ORANGE])
        for step, share in zip((-2, -1, 0, 1, 2), shares, strict=True):
            axis.text(step, max(share, 0.01) * 1.2, f"{share:.2f} %" if share else "none", ha="center", fontsize=9)
        axis.set_yscale("log")
        axis.set_ylim(0.01, 400)
        axis.set_xticks([-2, -1, 0, 1, 2])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("difference in LSB")
    axes[0].set_ylabel("% of outputs")
    return fig


@figure
def double_rounding() -> Any:
    """Around a half, rounding to the high 32 bits first moves numbers over the edge."""
    mantissa, exponent = np.frexp(MULTIPLIER)
    shift, fixed = -int(exponent), round(mantissa * 2**31)
    sums = np.random.default_rng(1).integers(-20_000, 20_000, 4000)
    exact = sums * MULTIPLIER
    below, high = np.floor(exact), (sums * fixed + (1 << 30)) >> 31
    before, after = exact - below, high / 2.0**shift - below
    near = np.flatnonzero(np.abs(before - 0.5) < 0.0105)
    near = near[np.argsort(before[near])][:: max(1, len(near) // 24)]
    fig, axis = plt.subplots(figsize=(6.8, 3.3))
    for step in (-1, 0, 1):
        axis.axvline(0.5 + step / 2**shift, color=GRAY, linewidth=0.7, linestyle=":")
    axis.axvline(0.5, color=BLUE, linewidth=1)
    for i, n in enumerate(near):
        color = ORANGE if before[n] < 0.5 <= after[n] else GRAY
        arrow = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.2}
        axis.annotate("", (after[n], i), (before[n], i), arrowprops=arrow)
        axis.plot([before[n]], [i], "o", color=color, markersize=3)
    axis.set_xlim(0.4885, 0.5115)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("fraction of sum × multiplier, before (dot) and after (arrow) the first rounding, to 1/128 here")
    axis.text(0.4997, len(near) * 1.02, "goes down", ha="right", color=BLUE)
    axis.text(0.5003, len(near) * 1.02, "goes up", ha="left", color=BLUE)
    return fig


@figure
def layout() -> Any:
    """A network in PyTorch's order and in the file's: one move at each end."""
    fig, axis = _canvas(8.4, 1.9)
    steps: Sequence[tuple[str, str, str]] = [
        ("input", "NCHW", BLUE), ("TRANSPOSE", "once", ORANGE), ("CONV_2D", "NHWC", GREEN), ("ADD", "NHWC", GREEN),
        ("permute", "no operator", GRAY), ("MEAN", "NHWC", GREEN), ("output", "N, classes", BLUE),
    ]  # fmt: skip
    for i, (name, order, color) in enumerate(steps):
        x = 0.1 + i * 1.19
        _box(axis, x, 1.2, 0.95, name, color)
        axis.text(x + 0.475, 0.65, order, ha="center", color=color, fontsize=9)
        if i:
            _arrow(axis, (x - 0.22, 1.2), (x, 1.2))
    return fig


@figure
def islands() -> Any:
    """A float island between quantized operators."""
    fig, axis = _canvas(8.4, 1.7)
    steps: Sequence[tuple[str, str, str]] = [
        ("CONV_2D", "uint8", GREEN), ("DEQUANTIZE", "float32", ORANGE), ("LOGISTIC", "float32", ORANGE), ("MUL", "float32", ORANGE),
        ("QUANTIZE", "uint8", GREEN), ("CONV_2D", "uint8", GREEN),
    ]  # fmt: skip
    for i, (name, type_, color) in enumerate(steps):
        x = 0.2 + i * 1.38
        _box(axis, x, 1.0, 1.1, name, color)
        axis.text(x + 0.55, 0.45, f"gives {type_}", ha="center", color=color, fontsize=9)
        if i:
            _arrow(axis, (x - 0.26, 1.0), (x, 1.0))
    axis.text(0.2 + 2 * 1.38 + 0.55, 1.5, "the island", ha="center", color=ORANGE)
    return fig


@figure
def pipeline() -> Any:
    """The stages and what passes between them."""
    fig, axis = _canvas(8.6, 2.3)
    stages: Sequence[tuple[str, str]] = [
        ("load", "module,\ninputs"), ("record", "calls, true\nvalues"), ("lower", "neutral\ngraph"), ("optimize", "fewer\noperators"),
        ("legalize", "one graph\na target"), ("write", ".circle\n.tflite"), ("verify", "report"),
    ]  # fmt: skip
    for i, (name, gives) in enumerate(stages):
        x = 0.1 + i * 1.22
        _box(axis, x, 1.4, 0.92, name, GREEN if name == "verify" else BLUE)
        axis.text(x + 0.46, 0.75, gives, ha="center", va="center", color=GRAY, fontsize=9)
        if i:
            _arrow(axis, (x - 0.28, 1.4), (x, 1.4))
    start, end = 0.1 + 1.22 + 0.46, 0.1 + 6 * 1.22 + 0.46
    axis.plot([start, start, end], [1.76, 1.95, 1.95], color=ORANGE, linewidth=1)
    _arrow(axis, (end, 1.98), (end, 1.72), ORANGE)
    axis.text((start + end) / 2, 2.2, "PyTorch's own values, for each operator", ha="center", va="top", color=ORANGE, fontsize=9)
    return fig


def draw(folder: Path) -> None:
    """Write all figures into ``folder``."""
    with matplotlib.rc_context(STYLE):
        for name, make in FIGURES.items():
            fig = make()
            fig.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(fig)


def stale() -> list[str]:
    """Names of the files that are not what is drawn now."""
    with tempfile.TemporaryDirectory() as temporary:
        draw(Path(temporary))
        made = {path.name: path.read_bytes() for path in Path(temporary).iterdir()}
    kept = {path.name: path.read_bytes() for path in FOLDER.glob("*.svg")}
    return sorted(name for name in {*made, *kept} if made.get(name) != kept.get(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        FOLDER.mkdir(exist_ok=True)
        draw(FOLDER)
    elif names := stale():
        sys.exit(f"stale: {', '.join(names)}: run python tools/figures.py")


if __name__ == "__main__":
    main()
