"""Which operators of .tflite files LiteRT gives to XNNPACK, and which it runs itself: ``python tools/delegation.py model.tflite ...``.

After the delegate has taken what it can, the interpreter lists the file's operators and one more for each part that was taken. An operator
is in a part if the part's outputs depend on it, walking back no further than the part's inputs.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Delegation:
    """Operators of a file by kind: those that XNNPACK runs, those that it leaves; and how many parts it has."""

    taken: Counter[str]
    left: Counter[str]
    parts: int


def delegation(path: str | Path) -> Delegation:
    """What XNNPACK takes of the first graph of a file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    listed = interpreter._get_ops_details()  # nothing public tells
    parts = [op for op in listed if op["op_name"] == "DELEGATE"]
    operators = [op for op in listed if op["op_name"] != "DELEGATE"]
    maker = {tensor: op for op in operators for tensor in op["outputs"].tolist()}
    taken: set[int] = set()
    for part in parts:
        given, pending = set(part["inputs"].tolist()), part["outputs"].tolist()
        while pending:
            tensor = pending.pop()
            if tensor not in given and tensor in maker and maker[tensor]["index"] not in taken:
                taken.add(maker[tensor]["index"])
                pending += maker[tensor]["inputs"].tolist()
    inside, outside = (Counter(op["op_name"] for op in operators if (op["index"] in taken) is which) for which in (True, False))
    return Delegation(inside, outside, len(parts))


def main() -> None:
    for path in sys.argv[1:]:
        found = delegation(path)
        left = ", ".join(f"{count} {op}" for op, count in found.left.most_common()) or "nothing left"
        print(f"{path}: {found.taken.total()} of {found.taken.total() + found.left.total()} operators in {found.parts} part(s); {left}")


if __name__ == "__main__":
    main()
