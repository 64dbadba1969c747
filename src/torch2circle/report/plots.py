"""The figures of the page, made with Bokeh: here their models, in the browser Bokeh's own script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.models import ColumnDataSource, HoverTool, TapTool
from bokeh.plotting import figure

COLOURS = {"onert": "#0072b2", "litert": "#d55e00", "one": "#009e73"}
"""Of the targets; told apart with any kind of colour vision (Okabe and Ito, 2008)."""
GREY, WARN, SECOND, THIRD = "#8a8f98", "#cc3311", "#56b4e9", "#e69f00"
TOOLS = "xpan,xwheel_zoom,box_zoom,reset,save"


def script() -> str:
    """Bokeh's JavaScript, as its package has it: what figures need, without widgets and mathematics."""
    return files("bokeh.server").joinpath("static/js/bokeh.min.js").read_text("utf-8")


def plots(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``Bokeh.embed.embed_items`` takes: ``docs``, and as ``roots`` the number of each figure by its name.

    The same facts give the same result: models are numbered anew.
    """
    document = Document()
    figures = [*_by_tensor(facts), *_by_range(facts), *_by_size(facts), *_details()]
    with document.models.freeze():  # else it would look through all of them for each
        for made in figures:
            document.add_root(made)
    numbers: dict[str, str] = {}
    content = _renumbered(document.to_json(deferred=False), numbers)
    return {"document": content, "roots": {str(made.name): numbers[made.id] for made in figures}}


def _renumbered(content: Any, numbers: dict[str, str]) -> Any:
    """The document with its models numbered in the order they come: Bokeh counts on through all documents of a process."""
    if isinstance(content, Mapping):
        return {key: _number(value, numbers) if key == "id" else _renumbered(value, numbers) for key, value in content.items()}
    return [_renumbered(item, numbers) for item in content] if isinstance(content, (list, tuple)) else content


def _number(old: str, numbers: dict[str, str]) -> str:
    return numbers.setdefault(old, f"m{len(numbers)}")


def _figure(name: str, title: str, x: str, y: str, tips: Sequence[tuple[str, str]], **options: Any) -> Any:
    axes = {"x_axis_label": x, "y_axis_label": y}
    look = {"height": 230, "sizing_mode": "stretch_width", "tools": TOOLS, "active_drag": "xpan", "active_scroll": None}
    made = figure(name=name, title=title, **{**axes, **look, **options})
    made.add_tools(HoverTool(tooltips=list(tips)), TapTool())
    made.toolbar.logo = None
    return made


def _by_tensor(facts: Mapping[str, Any]) -> list[Any]:
    """SQNR, largest difference and share of unequal elements of each recorded tensor, a series for each target."""
    rows = facts["tensors"]
    if not rows:
        return []
    tips = [("tensor", "@name"), ("operator", "@op"), ("SQNR", "@said"), ("largest", "@lsb LSB"), ("differ", "@differ{0.0000} %")]
    order = "tensor, in PyTorch's order"
    known = [at["sqnr"] for row in rows for at in row["at"].values() if at["sqnr"] is not None]
    top = max(known, default=0.0) + 10
    sqnr = _figure("sqnr", "SQNR of each operator (those that are bit-equal in a row above)", order, "dB", tips)
    lsb = _figure("lsb", "Largest difference of each operator", order, "LSB", tips, x_range=sqnr.x_range)
    differ = _figure("differ", "Elements that differ", order, "%", tips, x_range=sqnr.x_range)
    for place, side in enumerate(facts["targets"]):
        target = side["target"]
        own = [(x, row, row["at"][target]) for x, row in enumerate(rows) if target in row["at"]]
        if not own:
            continue
        source = ColumnDataSource(name=f"tensors-{target}", data={
            "x": [x for x, _, _ in own],
            "beside": [x + 0.18 * (2 * place - 1) for x, _, _ in own],
            "name": [row["name"] for _, row, _ in own],
            "op": [at["op"] for *_, at in own],
            "node": [at["node"] for *_, at in own],
            "target": [target] * len(own),
            "sqnr": [top if at["sqnr"] is None else at["sqnr"] for *_, at in own],
            "said": ["bit-equal" if at["sqnr"] is None else f"{at['sqnr']:.1f} dB" for *_, at in own],
            "lsb": [at["lsb"] for *_, at in own],
            "differ": [100 * (1 - at["equal"]) for *_, at in own],
        })  # fmt: skip
        look = {"source": source, "color": COLOURS[target], "legend_label": target}
        sqnr.scatter("x", "sqnr", size=7, marker=("circle", "diamond", "square")[place % 3], fill_alpha=0.75, **look)
        lsb.vbar(x="beside", top="lsb", width=0.34, **look)
        differ.vbar(x="beside", top="differ", width=0.34, **look)
    for made in (sqnr, lsb, differ):
        _legend_above(made)
    return [sqnr, lsb, differ]


def _legend_above(made: Any) -> None:
    """Where it hides no element; a click on a name hides the elements."""
    legend = made.legend[0]
    legend.update(click_policy="hide", orientation="horizontal", border_line_alpha=0, padding=0, margin=0)
    made.add_layout(legend, "above")


def _by_range(facts: Mapping[str, Any]) -> list[Any]:
    """How much of its range each activation uses, and which part of it is cut off."""
    rows = facts["ranges"]
    if not rows:
        return []
    tips = [("tensor", "@name"), ("can show", "@low to @high"), ("recorded", "@least to @most"), ("used", "@used{0.0} %"),
            ("saturated", "@saturated{0.0000} %")]  # fmt: skip
    source = ColumnDataSource(name="ranges-data", data={
        "x": list(range(len(rows))),
        "begin": [100 * (row["least"] - row["low"]) / (row["high"] - row["low"]) for row in rows],
        "end": [100 * (row["most"] - row["low"]) / (row["high"] - row["low"]) for row in rows],
        "used": [100 * row["used"] for row in rows],
        "saturated": [100 * row["saturated"] for row in rows],
        "node": [row["at"]["node"] if row["at"] else None for row in rows],
        "target": [row["at"]["target"] if row["at"] else None for row in rows],
        **{key: [row[key] for row in rows] for key in ("name", "tensor", "low", "high", "least", "most")},
    })  # fmt: skip
    order, title = "quantized tensor, in PyTorch's order", "Recorded values within what the integers can show"
    used = _figure("ranges", title, order, "% of the range", tips, y_range=(-2, 102))
    used.vbar(x="x", bottom=0, top=100, width=0.8, color=GREY, fill_alpha=0.25, line_alpha=0, source=source)
    used.vbar(x="x", bottom="begin", top="end", width=0.8, color=SECOND, source=source)
    cut = _figure("saturation", "Elements cut off at an end of the range", order, "%", tips, x_range=used.x_range)
    cut.vbar(x="x", top="saturated", width=0.8, color=WARN, source=source)
    return [used, cut]


def _by_size(facts: Mapping[str, Any]) -> list[Any]:
    """Bytes of the constants of each module, for the first target that has any."""
    rows: list[dict[str, Any]] = next((side["sizes"] for side in facts["targets"] if side["sizes"]), [])
    if not rows:
        return []
    tips = [("module", "@module"), ("weight", "@weight{0,0}"), ("bias", "@bias{0,0}"), ("other", "@other{0,0}")]
    source = ColumnDataSource({"x": list(range(len(rows))), **{key: [row[key] for row in rows] for key in rows[0]}}, name="sizes")
    made = _figure("sizes", "Constants of each module", "module, in the order of the file", "bytes", tips)
    kinds = ["weight", "bias", "other"]
    made.vbar_stack(kinds, x="x", width=0.8, color=[SECOND, THIRD, GREY], source=source, legend_label=kinds)
    _legend_above(made)
    made.yaxis.formatter.use_scientific = False
    return [made]


def _details() -> list[Any]:
    """Figures that the page fills with what was clicked; without any element they would have no ranges."""
    bins = ColumnDataSource({"left": [0], "right": [1], "count": [0]}, name="histogram-data")
    tips = [("from", "@left"), ("to", "@right"), ("elements", "@count{0,0}")]
    weights = _figure("histogram", "Weights", "integer, or number if they are float", "elements", tips, height=190)
    weights.quad(left="left", right="right", bottom=0, top="count", color=SECOND, line_alpha=0.3, source=bins)
    scales = ColumnDataSource({"channel": [0], "scale": [0], "peak": [0]}, name="scales-data")
    tips = [("channel", "@channel"), ("scale", "@scale{0.000000e+0}"), ("farthest from zero", "@peak")]
    channels = _figure("scales", "Scale of each channel", "channel", "scale", tips, height=190)
    channels.scatter("channel", "scale", size=4, color=THIRD, source=scales)
    return [weights, channels]
