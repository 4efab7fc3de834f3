"""A refusal says what to do: in the packages that speak to people every error carries a hint."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import volery

SOURCE = Path(volery.__file__).parent
SPEAKING = ("api", "cli", "control", "decide")


def without_hint(source: str) -> Iterator[int]:
    """The lines on which a VoleryError is made that says only what is wrong."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "VoleryError":
            continue
        if all(item.arg != "hint" for item in node.keywords):
            yield node.lineno


def test_every_refusal_has_a_hint() -> None:
    silent = [
        f"{file.relative_to(SOURCE)}:{line}"
        for package in SPEAKING
        for file in sorted((SOURCE / package).rglob("*.py"))
        for line in without_hint(file.read_text())
    ]
    assert silent == []


def test_one_without_is_found() -> None:
    assert list(without_hint('VoleryError("no")\nVoleryError("no", hint="yes")')) == [1]
