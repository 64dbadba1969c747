"""The graph as SVG: an element for each operator, which the page's script makes movable and clickable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from .layout import HEIGHT, WIDTH, Edge, Layout, Point, layout

LETTERS = 24
"""What fits into a box."""


def drawing(side: Mapping[str, Any]) -> Markup:
    """The graph of one target of ``facts``; nothing if it has none."""
    nodes, inputs, outputs = side["nodes"], side["inputs"], side["outputs"]
    if not nodes and not outputs:
        return Markup()
    first_out = len(nodes) + len(inputs)
    edges = _edges(nodes, inputs, outputs)
    plan = layout(first_out + len(outputs), sorted(edges))
    boxes = [_operator(i, node, plan.places[i]) for i, node in enumerate(nodes)]
    boxes += [_end("input", i, value, plan.places[len(nodes) + i]) for i, value in enumerate(inputs)]
    boxes += [_end("output", i, value, plan.places[first_out + i]) for i, value in enumerate(outputs)]
    size = Markup('width="{0:g}" height="{1:g}" viewBox="0 0 {0:g} {1:g}"').format(plan.width, plan.height)
    name = Markup('id="graph-{0}" class="graph" data-target="{0}" role="group" aria-label="graph for {0}"').format(side["target"])
    lines = Markup("").join(_line(edge, plan, title) for edge, title in sorted(edges.items()))
    return Markup('<svg {} {}><g class="edges">{}</g>{}</svg>').format(name, size, lines, Markup("").join(boxes))


def _edges(nodes: Sequence[Mapping[str, Any]], inputs: Sequence[Any], outputs: Sequence[Mapping[str, Any]]) -> dict[Edge, str]:
    """From each vertex to those that read it, with what goes along. Behind the operators come inputs and outputs."""

    def vertex(source: Any) -> int:
        return source if isinstance(source, int) else len(nodes) + int(str(source).removeprefix("input "))

    found: dict[Edge, str] = {}
    readers = [(i, operand) for i, node in enumerate(nodes) for operand in node["inputs"]]
    readers += [(len(nodes) + len(inputs) + i, output) for i, output in enumerate(outputs)]
    for reader, value in readers:
        if value is not None and value.get("from") is not None:
            found[vertex(value["from"]), reader] = f"{value['tensor']}: {described(value)}"
    return found


def described(value: Mapping[str, Any]) -> str:
    """Element type and shape; ``?`` behind the sizes of which the file takes any."""
    sizes = (f"{size}?" if axis in value["open"] else str(size) for axis, size in enumerate(value["shape"]))
    return f"{value['dtype']}[{','.join(sizes)}]"


def _operator(number: int, node: Mapping[str, Any], at: Point) -> Markup:
    compared = node["compared"]
    how = "not compared" if compared is None else f"at most {compared['lsb']:g} LSB off, {1 - compared['equal']:.2%} differ"
    label = f"{number}: {node['op']} {node['name']}, {how}"
    state = f"node {node['grade']}{' island' if node['island'] else ''}"
    attributes = Markup('class="{}" data-node="{}" tabindex="0" role="button" aria-label="{}"').format(state, number, label)
    return _box(attributes, at, node["op"], _short(node["name"]), label)


def _end(kind: str, number: int, value: Mapping[str, Any], at: Point) -> Markup:
    label = f"{kind} {value['name']}: {described(value)}"
    return _box(Markup('class="end" data-{}="{}"').format(kind, number), at, _short(f"{kind} {value['name']}"), described(value), label)


def _box(attributes: Markup, at: Point, head: str, below: str, title: str) -> Markup:
    x, y = at[0] - WIDTH / 2, at[1] - HEIGHT / 2
    box = Markup('<rect width="{:g}" height="{:g}" rx="6"/>').format(WIDTH, HEIGHT)
    words = Markup('<text class="op" x="10" y="19">{}</text><text class="name" x="10" y="36">{}</text>').format(head, below)
    return Markup('<g {} transform="translate({:g} {:g})"><title>{}</title>{}{}</g>').format(attributes, x, y, title, box, words)


def _short(text: str) -> str:
    """The end of a name, which tells more than its beginning."""
    return text if len(text) <= LETTERS else "…" + text[1 - LETTERS :]


def _line(edge: Edge, plan: Layout, title: str) -> Markup:
    """From below the one box to above the other, through the points between, in curves that leave and arrive vertically."""
    (x0, y0), (x1, y1) = plan.places[edge[0]], plan.places[edge[1]]
    points = [(x0, y0 + HEIGHT / 2), *plan.ways.get(edge, ()), (x1, y1 - HEIGHT / 2)]
    path = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for (ax, ay), (bx, by) in pairwise(points):
        middle = (ay + by) / 2
        path.append(f"V{by:g}" if ax == bx else f"C{ax:g} {middle:g} {bx:g} {middle:g} {bx:g} {by:g}")
    return Markup('<path d="{}"><title>{}</title></path>').format(escape("".join(path)), title)
