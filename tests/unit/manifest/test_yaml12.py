"""YAML 1.2 text -> nodes with places; everything hostile is refused with a place."""

from __future__ import annotations

import math

import pytest
import yaml

from volery.manifest import yaml12
from volery.manifest.mistake import Mark
from volery.manifest.tree import data
from volery.manifest.yaml12 import BYTES_MAX, DEPTH_MAX, Mapping, Scalar, compose


def read(text: str | bytes) -> Mapping:
    root, mistakes = compose(text.encode() if isinstance(text, str) else text, "f")
    assert not mistakes, mistakes
    assert root is not None
    return root


def wrong(text: str | bytes) -> list[str]:
    _, mistakes = compose(text.encode() if isinstance(text, str) else text, "f")
    return [str(mistake) for mistake in mistakes]


def value(text: str) -> object:
    return Scalar(Mark("f", 1, 1), text, plain=True).value


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "on", "off", "y", "1:30", "2026-11-23", "5%", "0b1", "1_000", "0o8", "+", ".",
     "1e", "10s", "-", "Nan", "TRue", "9" * 41],
)  # fmt: skip
def test_text_stays_text(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("010", 10), ("0x1F", 31), ("0o17", 15), ("-7", -7), ("+7", 7), ("1.10", 1.1), ("1e3", 1000.0),
     (".5", 0.5), ("5.", 5.0), ("-.inf", -math.inf), (".Inf", math.inf), ("true", True),
     ("False", False), ("null", None), ("~", None), ("", None)],
)  # fmt: skip
def test_core_schema(text: str, meaning: object) -> None:
    assert value(text) == meaning
    assert type(value(text)) is type(meaning)


def test_nan_is_a_number() -> None:
    found = value(".nan")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_quoted_text_is_always_text() -> None:
    assert data(read("a: '1'\nb: \"no\"\nc: !!str 5\nd: |\n  7\n")) == {
        "a": "1",
        "b": "no",
        "c": "5",
        "d": "7\n",
    }


def test_every_key_and_value_knows_its_place() -> None:
    root = read("a: 1\nb:\n  - x\n  - {k: é, l: 2}\n")
    b = root.entries["b"]
    assert (b.key.line, b.key.column) == (2, 1)
    assert isinstance(b.value, yaml12.Sequence)
    flow = b.value.items[1]
    assert isinstance(flow, Mapping)
    assert (flow.entries["l"].key.line, flow.entries["l"].key.column) == (4, 12)
    assert (flow.entries["l"].value.mark.line, flow.entries["l"].value.mark.column) == (4, 15)


def test_byte_order_mark_and_windows_line_ends() -> None:
    root = read(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert (root.entries["b"].key.line, root.entries["b"].key.column) == (2, 1)


def test_merge_keys() -> None:
    text = "base: &b {x: 1, y: 1}\nmore: &m {y: 2, z: 2}\nall:\n  <<: [*b, *m]\n  x: 3\n"
    merged = data(read(text))
    assert isinstance(merged, dict)
    assert merged["all"] == {"x": 3, "y": 1, "z": 2}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["f:1:1: is empty; write services here, or remove it"]),
        ("# only a comment\n", ["f:1:1: is empty; write services here, or remove it"]),
        ("- a\n", ["f:1:1: must be a mapping such as 'app: birdhouse', got a list"]),
        ("hello\n", ["f:1:1: must be a mapping such as 'app: birdhouse', got text"]),
        ("~\n", ["f:1:1: must be a mapping such as 'app: birdhouse', got nothing"]),
        (
            "a: 1\n---\nb: 1\n",
            ["f:2:1: must be one YAML document; remove this '---' and what follows"],
        ),
        (
            "a:\n  b: 1\n  b: 2\na: 3\n",
            [
                "f:3:3: a.b: duplicate key 'b'; the first is on line 2",
                "f:4:1: a: duplicate key 'a'; the first is on line 1",
            ],
        ),
        ("1: x\n'1': y\n", ["f:2:1: 1: duplicate key '1'; the first is on line 1"]),
        ("a:\n\t- b\n", ["f:2:1: a tab cannot be used for indentation; use spaces"]),
        ("a: @x\n", ["f:1:4: text that starts with '@' must be in quotes"]),
        ("a: > 1%\n", ["f:1:6: text that starts with '>' or '|' must be in quotes"]),
        ("a: [1,\n", ["f:1:7: a value is expected here"]),
        ("a: {b: 1\n", ["f:1:4: expected ',' or '}'; is the '{' closed?"]),
        ("a: 'x\n", ["f:1:4: this quote is never closed"]),
        ("a:\n  b: 1\n  c:2\n  d: 3\n", ["f:3:3: a ':' and a space are missing after this key"]),
        ("a:\n  b: 1\n  c 2\n", ["f:3:3: a ':' and a space are missing after this key"]),
        (
            "a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> other\n",
            ["f:2:1: a merge conflict is left here; keep one side of it"],
        ),
        (
            "a: - b\n",
            ["f:1:4: a list item ('- ...') must begin a line of its own; or write [a, b]"],
        ),
        ("a: [*/b]\n", ["f:1:5: text that starts with '*' or '&' must be in quotes"]),
        ("a: {b: *}\n", ["f:1:8: text that starts with '*' or '&' must be in quotes"]),
        ("a: &\n", ["f:1:4: text that starts with '*' or '&' must be in quotes"]),
        ("a: {b: !c}\n", ["f:1:8: text that starts with '!' must be in quotes"]),
        ("a: !<x y\n", ["f:1:4: text that starts with '!' must be in quotes"]),
        ("a: |\n  b\n\tc\n", ["f:3:1: a tab cannot be used for indentation; use spaces"]),
        ("a:\n  b: 1\n\tc: 2\n", ["f:3:1: a tab cannot be used for indentation; use spaces"]),
        ("a: 'b\n---\nc'\n", ["f:1:4: this quote is never closed"]),
        ('a: "\\xZZ"\n', ["f:1:7: unknown escape in double quotes; use single quotes"]),
        (
            "  a: 1\nb: 2\n",
            ["f:2:1: a key is expected here: check that the indentation matches the lines above"],
        ),
        (
            "a: b: c\n",
            ["f:1:5: a ':' is not expected here: check the indentation above, or put the text in "
             "quotes"],
        ),
        (
            "a:\n  b: 1\n c: 2\n",
            ["f:3:2: a key is expected here: check that the indentation matches the lines above"],
        ),
        (
            "a: *x\n",
            ["f:1:4: alias '*x' is not defined above; quote text that starts with '*'"],
        ),
        ("a: &x [*x]\n", ["f:1:8: alias '*x' contains itself"]),
        (
            "a: !!python/object:os.system x\n",
            ["f:1:4: tag 'tag:yaml.org,2002:python/object:os.system' is not supported; remove it"],
        ),
        ("a: !x [b]\n", ["f:1:4: tag '!x' is not supported; remove it"]),
        ("? [a]\n: b\n", ["f:1:3: a key must be text"]),
        ("a:\n  ?\n  : b\n", ["f:2:4: a: a key is missing before ':'"]),
        ("a:\n  <<: x\n", ["f:2:7: '<<' must be given a mapping or a list of mappings"]),
        ('a: "\\0"\n', ["f:1:4: must not contain a NUL character or half a character"]),
        ("a: b\0c\n", ["f:1:5: character U+0000 is not allowed here"]),
        ("a: 1\nb: \x1b[31m\n", ["f:2:4: character U+001B is not allowed here"]),
        ("a: b\u2028c: d\n", ["f:1:5: character U+2028 is not allowed here"]),
        (b"a: 1\nb: \xff\n", ["f:2:4: must be UTF-8 text"]),
        ("a: 1\n".encode("utf-16"), ["f:1:1: must be UTF-8 text"]),
        ("%YAML 3.0\n---\na: 1\n", ["f:1:1: must be YAML 1.2"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str | bytes, lines: list[str]) -> None:
    assert wrong(text) == lines


def test_a_large_file() -> None:
    assert wrong(b"a: " + b"x" * (10 << 20)) == ["f:1:1: must be at most 1 MiB, got 10.0 MiB"]


def test_a_file_at_the_limit() -> None:
    text = b"a: " + b"x" * (BYTES_MAX - 3)
    assert isinstance(data(read(text)), dict)


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{a: " * 1000, "- " * 100_000])
def test_deep_nesting(text: str) -> None:
    (line,) = wrong(text)
    assert f"must not be nested deeper than {DEPTH_MAX} levels" in line


def test_nesting_at_the_limit() -> None:
    depth = DEPTH_MAX - 1
    assert data(read("a: " + "[" * (depth - 1) + "x" + "]" * (depth - 1)))


def test_deep_nesting_through_aliases() -> None:
    lines = ["a0: &a0 " + "[" * 30 + "]" * 30]
    lines += [f"a{i}: &a{i} [{'[' * 20}*a{i - 1}{']' * 20}]" for i in range(1, 50)]
    (line,) = wrong("\n".join(lines))
    assert "aliases expanded" in line


def test_an_alias_bomb() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join(['*' + before] * 10)}]")
    (line,) = wrong("\n".join(lines))
    assert line == "f:5:4: must be at most 100000 values, aliases expanded"


def test_too_many_values() -> None:
    (line,) = wrong("a: [" + "x," * 200_000 + "]")
    assert "must be at most 100000 values" in line


def test_the_pure_parser_reads_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {b: 1.10, c: 'x'}\nd: [*x, no]\n"
    fast = data(read(text))
    monkeypatch.setattr(yaml12, "_PARSER", yaml.SafeLoader)
    assert data(read(text)) == fast
    assert wrong("a: @x\n") == ["f:1:4: text that starts with '@' must be in quotes"]
    assert wrong('a: "\\ud800"\n') == [
        "f:1:4: must not contain a NUL character or half a character"
    ]
    assert wrong("[" * 100_000)
