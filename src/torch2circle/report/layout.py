"""Where the operators of a graph stand in its drawing: in layers from top to bottom, with few crossings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

Point = tuple[float, float]
Edge = tuple[int, int]

WIDTH, HEIGHT = 190.0, 46.0
"""Of the box of an operator."""
ACROSS, DOWN, MARGIN = 214.0, 76.0, 10.0
"""From one box to the next, and around all."""
LARGE = 1000
"""A layout that avoids crossings takes a time that grows with the cube of the operators: 3 seconds for 1,200, a minute for 3,600."""


@dataclass(frozen=True)
class Layout:
    """``places``: the middle of each vertex; ``ways``: the points between the two ends of an edge, where it is led around others."""

    places: Sequence[Point]
    ways: Mapping[Edge, Sequence[Point]]
    width: float
    height: float


def layout(count: int, edges: Sequence[Edge]) -> Layout:
    """Places for vertices 0 to ``count`` - 1 of a graph without cycles.

    Sugiyama's method; above ``LARGE`` vertices, or where its package has no wheel, layers by the longest way from a source.
    """
    joined = sorted({end for edge in edges for end in edge})
    places: dict[int, Point] = {}
    ways: dict[Edge, list[Point]] = {}
    if count > LARGE or find_spec("fast_sugiyama") is None:
        places = _in_layers(joined, edges)
    elif edges:
        places, ways = _by_sugiyama(joined, edges)
    alone = [vertex for vertex in range(count) if vertex not in places]
    places.update((vertex, (float(i), -1.0)) for i, vertex in enumerate(alone))
    return _scaled([places[vertex] for vertex in range(count)], ways)


def _by_sugiyama(joined: Sequence[int], edges: Sequence[Edge]) -> tuple[dict[int, Point], dict[Edge, list[Point]]]:
    from fast_sugiyama import from_edges

    # Numbered without a gap: then the numbers behind the last are those of the vertices it adds to lead edges around others.
    number = {vertex: i for i, vertex in enumerate(joined)}
    places: dict[int, Point] = {}
    ways: dict[Edge, list[Point]] = {}
    left = 0.0
    for positions, width, _height, made in from_edges([(number[a], number[b]) for a, b in edges], vertex_spacing=1):
        start, top = min(x for _, (x, _) in positions), max(y for _, (_, y) in positions)
        at = {int(vertex): (x - start + left, top - y) for vertex, (x, y) in positions}
        left += width + 1
        follows: dict[int, list[int]] = {}
        for source, target in made or ():
            follows.setdefault(int(source), []).append(int(target))
        for vertex in sorted(v for v in at if v < len(joined)):
            places[joined[vertex]] = at[vertex]
            for step in follows.get(vertex, ()):
                way = []
                while step >= len(joined):
                    way.append(at[step])
                    (step,) = follows[step]
                ways[joined[vertex], joined[step]] = way
    return places, ways


def _in_layers(joined: Sequence[int], edges: Sequence[Edge]) -> dict[int, Point]:
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(joined)
    graph.add_edges_from(edges)
    layers = [sorted(layer) for layer in nx.topological_generations(graph)]
    return {v: (place - (len(layer) - 1) / 2, float(depth)) for depth, layer in enumerate(layers) for place, v in enumerate(layer)}


def _scaled(places: Sequence[Point], ways: Mapping[Edge, Sequence[Point]]) -> Layout:
    """In the units of the drawing, with a margin around it."""
    left, top = (min((point[axis] for point in places), default=0.0) for axis in (0, 1))
    points = [*places, *(point for way in ways.values() for point in way)]
    left = min([left, *(x for x, _ in points)])

    def scaled(point: Point) -> Point:
        return round((point[0] - left) * ACROSS + WIDTH / 2 + MARGIN, 1), round((point[1] - top) * DOWN + HEIGHT / 2 + MARGIN, 1)

    width, height = (max((scaled(point)[axis] for point in points), default=0.0) for axis in (0, 1))
    moved = {edge: [scaled(point) for point in way] for edge, way in ways.items()}
    return Layout([scaled(point) for point in places], moved, width + WIDTH / 2 + MARGIN, height + HEIGHT / 2 + MARGIN)
