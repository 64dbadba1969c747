"""A report as JUnit XML, which continuous integration shows: a test case for each operator and each output."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..format import whole_file
from .report import Comparison

Row = tuple[Comparison, Sequence[str]]
"""A comparison and what it breaks, in words."""


def junit(suites: Iterable[tuple[str, Sequence[Row]]]) -> bytes:
    """Suites by name as JUnit XML in UTF-8.

    A case is called by operator and tensor; its class is the module, its ``file`` and ``line`` the place in the model.
    """
    root = ET.Element("testsuites")
    totals = [0, 0]
    for name, rows in suites:
        failures = sum(bool(broken) for _, broken in rows)
        suite = ET.SubElement(root, "testsuite", name=_xml(name), tests=str(len(rows)), failures=str(failures), errors="0", skipped="0")
        totals = [totals[0] + len(rows), totals[1] + failures]
        for c, broken in rows:
            case = ET.SubElement(suite, "testcase", name=_xml(f"{c.op} {c.name}"), classname=_xml(c.where.module or "<top>"), time="0")
            if c.where.file:
                case.set("file", _xml(c.where.file))
                case.set("line", str(c.where.line))
            said = f"{c.equal} of {c.size} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB"
            if broken:
                failure = ET.SubElement(case, "failure", type="VerifyFailed", message=_xml("; ".join(broken)))
                failure.text = _xml("\n".join([*broken, said, *([c.reason] if c.reason else []), f"at {c.where}"]))
            ET.SubElement(case, "system-out").text = _xml(f"{said}; {c.reason}" if c.reason else said)
    root.set("tests", str(totals[0]))
    root.set("failures", str(totals[1]))
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _xml(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or c >= "\ue000" else "�" for c in text)


def write(data: bytes, path: Path) -> None:
    """Write a small file as a whole, or leave what ``path`` held before.

    Raises:
        WriteError: a missing folder, no permission, a full disk.
    """
    with whole_file(path) as sink:
        sink.write(data)
