"""Results as JUnit XML, which continuous integration shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .format import whole_file


@dataclass(frozen=True)
class Trouble:
    """Why a case did not pass: a ``failure`` of what it checks, an ``error`` that kept it from ending, or ``skipped``."""

    how: Literal["failure", "error", "skipped"]
    kind: str
    message: str
    text: str = ""


@dataclass(frozen=True)
class Case:
    """A test case: its ``group`` is what JUnit calls a class, ``file`` and ``line`` are a place in the user's code."""

    name: str
    group: str
    said: str = ""
    trouble: Trouble | None = None
    file: str = ""
    line: int = 0
    seconds: float = 0.0


def junit(suites: Mapping[str, Sequence[Case]]) -> bytes:
    """Suites by name as JUnit XML in UTF-8."""
    root = ET.Element("testsuites")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for name, cases in suites.items():
        suite = ET.SubElement(root, "testsuite", name=_xml(name))
        count = dict.fromkeys(totals, 0)
        for case in cases:
            suite.append(_element(case))
            count["tests"] += 1
            if case.trouble:
                count[{"failure": "failures", "error": "errors", "skipped": "skipped"}[case.trouble.how]] += 1
        for key, value in count.items():
            suite.set(key, str(value))
            totals[key] += value
    for key, value in totals.items():
        root.set(key, str(value))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _element(case: Case) -> ET.Element:
    made = ET.Element("testcase", name=_xml(case.name), classname=_xml(case.group), time=f"{case.seconds:.3f}".rstrip("0").rstrip("."))
    if case.file:
        made.set("file", _xml(case.file))
        made.set("line", str(case.line))
    if case.trouble:
        trouble = ET.SubElement(made, case.trouble.how, type=_xml(case.trouble.kind), message=_xml(case.trouble.message))
        trouble.text = _xml(case.trouble.text)
    ET.SubElement(made, "system-out").text = _xml(case.said)
    return made


def _xml(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or c >= "\ue000" else "�" for c in text)


def write(suites: Mapping[str, Sequence[Case]], path: Path) -> None:
    """Write ``junit(suites)`` as a whole, or leave what ``path`` held before.

    Raises:
        WriteError: a missing folder, no permission, a full disk.
    """
    with whole_file(path) as sink:
        sink.write(junit(suites))
