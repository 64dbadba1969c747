"""Results as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STAGES = ("record", "lower", "optimize", "legalize", "write", "judge")
COLUMNS = {
    "model": "model", "engine": "engine", "file_mib": "MiB", "t_forward": "forward", "t_write": "raw write", "t_unpack": "unpack",
    "t_load": "load", **{stage: stage for stage in STAGES}, "t_export_save": "export", "ratio": "ratio", "ratio_to_floor": "to floor",
    "ratio_first": "first", "extra_mib": "extra MiB", "extra_mib_forward": "forward's", "largest_mib": "largest",
}  # fmt: skip
"""Key -> heading."""


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A row a model. Seconds, ratios and MiB."""
    from torch2circle.show import columns

    rows = [tuple(COLUMNS.values())]
    for result in results:
        flat = {**result, **result["stages"]}
        rows.append(tuple(_cell(flat.get(key)) for key in COLUMNS))
    return columns(rows, None)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def growth_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows of each kind of growth, and below them the exponent."""
    lines = []
    for name, kind in found.items():
        lines.append(f"{name:<12}" + "".join(f"{key:>14}" for key in [*list(kind["rows"][0])[1:], "us each"]))
        for row in kind["rows"]:
            each = row["cpu_ours"] / row["operators"] * 1e6
            lines.append(f"{row['size']:<12}" + "".join(f"{value:>14.4g}" for value in [*list(row.values())[1:], each]))
        lines.append(f"{'':<12}exponent over {kind['over']}: {kind['exponent']:.2f}")
    return "\n".join(lines)


def facts(result: Mapping[str, Any]) -> str:
    """A line a figure; the stages indented."""
    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            lines += [f"  {name:<22} {took:.4f}" for name, took in value.items()]
        else:
            lines.append(f"{key:<24} {value:.4f}" if isinstance(value, float) else f"{key:<24} {value}")
    return "\n".join(lines)
