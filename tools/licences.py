"""Licences of what is installed with torch2circle, from the packages' own metadata."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# SPDX identifiers that ask for no more than their text to be kept.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT",
    "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib", "ZPL-2.1",
}  # fmt: skip
# Copyleft by file, of packages that are used as they are.
BY_FILE = {"MPL-2.0"}
# What older metadata calls them. "BSD" does not say how many clauses, which makes no difference here.
NAMES = {
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0", "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "mit license": "MIT", "the mit license": "MIT", "isc license (iscl)": "ISC", "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0": "MPL-2.0", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "the unlicense (unlicense)": "Unlicense",
}  # fmt: skip


def closure(name: str, extras: Iterable[str] = ()) -> set[str]:
    """The packages that an installation of ``name`` brings here, without itself: names, normalized."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), frozenset(extras))]
    done = set()
    while waiting:
        package, chosen = waiting.pop()
        if (package, chosen) in done:
            continue
        done.add((package, chosen))
        for text in importlib.metadata.requires(package) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in chosen or {""}):
                found.add(canonicalize_name(requirement.name))
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found - {canonicalize_name(name)}


def licences(package: str) -> set[str]:
    """SPDX identifiers of an installed package; what is not known is as its metadata has it, and nothing if that says nothing."""
    about = importlib.metadata.metadata(package).json  # keys in snake case, repeated ones as lists
    if expression := about.get("license_expression"):
        return set(_identifiers(str(expression)))
    classified = [text.rpartition(" :: ")[2] for text in about.get("classifier", ()) if text.startswith("License ::")]
    stated = str(about.get("license", "")).strip()
    texts = [stated] if stated and "\n" not in stated and len(stated) < 100 else classified
    return {identifier for text in texts for identifier in _identifiers(text)}


def permitted(found: set[str]) -> bool:
    """Whether what has these licences may come with torch2circle."""
    return bool(found) and found <= PERMISSIVE | BY_FILE


def _identifiers(text: str) -> Iterator[str]:
    if known := NAMES.get(text.lower().strip()):
        yield known
        return
    for part in re.split(r"\s+(?:AND|OR)\s+|[(),]", text):
        if part := part.strip():
            yield NAMES.get(part.lower(), part)
