"""One HTML page that needs nothing else: data, figures, Bokeh's script and our own are all in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from . import plots
from .drawing import described, drawing
from .facts import GRADES, finite

SAID = {
    "exact": "bit-equal",
    "rare": "at most 1 LSB, in less than 0.1 % of elements",
    "some": "at most 1 LSB, in less than 1 %",
    "many": "at most 1 LSB, in 1 % or more",
    "off": "more than 1 LSB",
    "unmeasured": "not compared by itself",
}


def page(facts: Mapping[str, Any]) -> str:
    """The page of ``facts``. The same facts give the same text."""
    assert tuple(SAID) == GRADES
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, bytes=grouped, described=described, number=number)
    scripts = [plots.script(), _file("page.js")]
    allowed = f"script-src {' '.join(map(_hash, scripts))}"
    return environment.from_string(_file("page.html")).render(
        facts=facts,
        grades=SAID,
        style=Markup(_file("page.css")),
        scripts=[Markup(text.replace("</script", "<\\/script")) for text in scripts],
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {allowed}",
        graphs=[drawing(side) for side in facts["targets"]],
        data=Markup(as_json(facts)),
        plots=Markup(as_json(plots.plots(facts))),
    )


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    """What lets the browser run this script and no other."""
    digest = hashlib.sha256(text.replace("</script", "<\\/script").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def as_json(content: Any) -> str:
    """JSON for an HTML element: no ``<`` in it can end that, and infinities are strings."""
    return json.dumps(finite(content), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}".replace("%", " %")


def grouped(count: int) -> str:
    return f"{count:,}"


def number(value: float) -> str:
    return f"{value:.4g}"
