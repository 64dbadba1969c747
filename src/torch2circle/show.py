"""What is supported, as plain data for JSON, and plain data as text for people."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from .ir import Graph, Type
from .spec import OPS
from .text import one_line

WIDEST = 200


def counted(*graphs: Graph) -> dict[str, int]:
    """Operators and how many of each, the most frequent first."""
    return dict(Counter(node.op for graph in graphs for node in graph.nodes()).most_common())


def weight_bytes(*graphs: Graph) -> dict[str, int]:
    """Bytes of constants by element type; what several graphs have in common counts once."""
    sizes: Counter[str] = Counter()
    before: set[tuple[str, Type]] = set()
    for graph in graphs:
        constants = [value for value in graph.values() if value.data is not None and (value.name, value.type) not in before]
        for value in constants:
            sizes[value.type.dtype.value] += value.type.nbytes
        before.update((value.name, value.type) for value in constants)
    return dict(sizes.most_common())


def support_rows() -> list[tuple[str, str, str, str]]:
    """(PyTorch operator, kind of its operands, how onert computes it, how LiteRT does) as measured, for each that is lowered."""
    from .lower import LOWERINGS
    from .support import WAYS, Table, measured

    def said(cell: Mapping[str, float]) -> str:
        return ", ".join(f"{way} {cell[way]:g}" if cell[way] else way for way in WAYS if way in cell) or "not measured"

    table = measured()
    unmeasured: Table = {op: {"": {}} for op in LOWERINGS}  # the user's own
    rows = ((op, kind, cells) for op, kinds in sorted({**unmeasured, **table}.items()) for kind, cells in sorted(kinds.items()))
    return [(op, kind, said(cells.get("onert", {})), said(cells.get("litert", {}))) for op, kind, cells in rows]


def refused_rows() -> list[tuple[str, str]]:
    """(PyTorch operator on quantized tensors, why it has no lowering)."""
    from .lower import LOWERINGS
    from .lower.vocabulary import quantized_operators, reason

    return [(op, reason(op) or "not supported") for op in quantized_operators() if op not in LOWERINGS]


def core_rows() -> list[tuple[str, str]]:
    """(operator of PyTorch's core, what becomes of it)."""
    from .lower import LOWERINGS
    from .lower.vocabulary import core_operators, reason, recorded_as_others

    def said(op: str) -> str:
        if op in LOWERINGS:
            return "lowered"
        return "recorded as others" if recorded_as_others(op) and not reason(op) else reason(op) or "not supported"

    return [(op, said(op)) for op in core_operators()]


def file_rows() -> list[tuple[str, str, str]]:
    """(file operator, what onert makes of which schemes, what LiteRT does) as measured."""
    from .targets.base import measured

    def said(row: Mapping[str, str]) -> str:
        verdicts = dict.fromkeys(row.values())
        return "; ".join(f"{verdict} {', '.join(key for key in row if row[key] == verdict)}" for verdict in verdicts) or "not measured"

    return [(op, said(measured("onert").get(op, {})), said(measured("litert").get(op, {}))) for op in OPS]


def columns(rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Rows as aligned columns, the first row being their names; numbers to the right.

    On a terminal of ``width`` characters the last column is cut on its left, and left out where less than 12 would remain. No row is filled
    up for the sake of a cell of more than ``WIDEST`` characters.
    """
    rows = [[*map(one_line, row)] for row in rows]
    rights = [all(not row[i] or row[i][0].isdigit() or row[i] == "inf" for row in rows[1:]) for i in range(len(rows[0]))]
    widths = [min(WIDEST, max(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    if width is not None:
        room = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
        if room < min(12, widths[-1]):
            return columns([row[:-1] for row in rows], width) if len(widths) > 2 else columns([[row[0]] for row in rows], None)
        rows = [[*row[:-1], row[-1] if len(row[-1]) <= room else "…" + row[-1][1 - room :]] for row in rows]

    def aligned(row: Sequence[str]) -> str:
        return "  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(row, widths, rights, strict=True))

    lines = [aligned(row) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def labelled(label: str, text: str, width: int | None) -> str:
    """``label`` and what belongs to it, on a terminal broken between words and indented."""
    line = f"  {one_line(label):12} {one_line(text)}"
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(line, max(width, 40), subsequent_indent=" " * 15, break_long_words=False, break_on_hyphens=False)
