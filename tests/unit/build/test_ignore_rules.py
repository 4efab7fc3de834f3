"""Ignore rules, line by line; what git really does is asked in the integration tests."""

from __future__ import annotations

import pytest

from volery.build.ignore import Rules, ignored, never_source, parse


def rules(text: str, base: bytes = b"") -> Rules:
    return Rules(base, tuple(rule for line in text.encode().split(b"\n") if (rule := parse(line))))


def is_ignored(text: str, path: str) -> bool:
    return ignored([rules(text)], path.rstrip("/").encode(), path.endswith("/"))


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("*.log", "a/b/x.log", True),
        ("/*.log", "a/x.log", False),
        ("foo/", "foo", False),
        ("foo/", "foo/", True),
        ("a/b", "x/a/b", False),
        ("**/b", "x/a/b", True),
        ("a/**", "a/", False),
        ("a/**", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("a**c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("[[:digit:]]", "7", True),
        ("[", "[", False),
        (r"\#x", "#x", True),
        ("#x", "#x", False),
        ("x \r", "x", True),
        (r"x\ ", "x ", True),
        ("*\n!x", "x", False),
        ("!x\n*", "x", True),
        ("/", "x", False),
    ],
)
def test_one_rule(text: str, path: str, expected: bool) -> None:
    assert is_ignored(text, path) is expected


def test_deepest_file_decides_and_silence_asks_the_one_above() -> None:
    chain = [rules("*.txt\nb"), rules("!keep.txt", b"a/")]
    assert ignored(chain, b"a/other.txt", False)
    assert not ignored(chain, b"a/keep.txt", False)
    assert ignored(chain, b"a/b", False)


def test_names_are_bytes() -> None:
    rule = parse(b"\xff.*")
    assert rule
    assert rule.matches(b"\xff.log", False)
    assert not rule.matches(b"\xfe.log", False)


@pytest.mark.parametrize(
    "name",
    [
        *(b".git", b".volery", b"volery.yaml", b"__pycache__", b"x.pyc"),
        *(b".DS_Store", b"index.js~", b".index.js.swp"),
    ],
)
def test_never_source(name: bytes) -> None:
    assert never_source(name)


@pytest.mark.parametrize("name", [b".gitignore", b"node_modules", b"git", b".venv", b"pyc"])
def test_source_unless_a_rule_says_otherwise(name: bytes) -> None:
    assert not never_source(name)
