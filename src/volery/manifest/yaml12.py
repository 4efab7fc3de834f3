"""YAML text -> a tree of nodes that know their place, read as YAML 1.2 says.

PyYAML's parser (libyaml where present) only delivers events; the tree, the scalars of the 1.2 core
schema (`no`, `off`, `1:30` and dates are text, `010` is ten), duplicate keys and all limits are
ours: size, depth, and the number of nodes after aliases are expanded. Nothing is ever constructed
from a tag. Merge keys (`<<: *defaults`) work; a key of the mapping itself wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from volery.manifest.mistake import Mark, Mistake, Path, mistake, quoted

BYTES_MAX = 1 << 20
DEPTH_MAX = 50
NODES_MAX = 100_000
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_TEXT_TAGS = {None, "!", "tag:yaml.org,2002:str"}
_OTHER_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_INT = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)")
_NAMED: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_EXPLAINED = {
    "mapping values are not allowed": "a ':' is not expected here: check the indentation above, "
    "or put the text in quotes",
    "did not find expected key": "a key is expected here: check that the indentation matches the "
    "lines above",
    "did not find expected '-' indicator": "a list item ('- ...') is expected here: check the "
    "indentation",
    "did not find expected <document start>": "a key is expected here: check that the indentation "
    "matches the lines above",
    "block sequence entries are not allowed": "a list item ('- ...') must begin a line of its own; "
    "or write [a, b]",
    "could not find expected ':'": "a ':' and a space are missing after this key",
    "did not find expected alphabetic or numeric": "text that starts with '*' or '&' must be in "
    "quotes",
    "did not find expected whitespace or line break": "text that starts with '!' must be in quotes",
    "did not find the expected '>'": "text that starts with '!' must be in quotes",
    "found a tab character": "a tab cannot be used for indentation; use spaces",
    "did not find expected comment or line break": "text that starts with '>' or '|' must be in "
    "quotes",
    "found unexpected end of stream": "this quote is never closed",
    "found unexpected document indicator": "this quote is never closed",
    "did not find expected ',' or ']'": "expected ',' or ']'; is the '[' closed?",
    "did not find expected ',' or '}'": "expected ',' or '}'; is the '{' closed?",
    "did not find expected node content": "a value is expected here",
    "did not find expected hexdecimal number": "unknown escape in double quotes; use single quotes",
    "found unknown escape character": "unknown escape in double quotes; use single quotes",
    "found incompatible YAML document": "must be YAML 1.2",
}
_NOTICED_LATER = {
    "while scanning a simple key",
    "while scanning an alias",
    "while scanning an anchor",
    "while scanning a tag",
    "found unexpected document indicator",
}
"""What is wrong is where this began."""
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>")


@dataclass(frozen=True)
class Scalar:
    """Text as written; only *plain* (unquoted) text can mean a number, a boolean or nothing."""

    mark: Mark
    text: str
    plain: bool
    size: int = 1
    height: int = 1

    @property
    def value(self) -> str | int | float | bool | None:
        """What YAML 1.2 (core schema) says the text means."""
        if not self.plain:
            return self.text
        if self.text in _NAMED:
            return _NAMED[self.text]
        if _INT.fullmatch(self.text):
            octal = self.text.startswith("0o")
            return int(self.text, 0 if octal or self.text.startswith("0x") else 10)
        if _FLOAT.fullmatch(self.text) and len(self.text) <= 40:
            return float(self.text.replace(".i", "i").replace(".I", "i"))
        return self.text


@dataclass(frozen=True)
class Sequence:
    """A list."""

    mark: Mark
    items: tuple[Node, ...]
    size: int
    height: int


@dataclass(frozen=True)
class Entry:
    """One key of a mapping: where it stands, and its value."""

    key: Mark
    value: Node


@dataclass(frozen=True)
class Mapping:
    """Keys (always text) and values in the order they were written."""

    mark: Mark
    entries: dict[str, Entry]
    size: int = 1
    height: int = 1


Node = Scalar | Sequence | Mapping


class _Stop(Exception):
    """What is wrong is so wrong that nothing after it can be read."""

    def __init__(self, mark: Mark, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.mistake = mistake(mark, path, message)


def compose(data: bytes, file: str) -> tuple[Mapping | None, list[Mistake]]:
    """The top-level mapping of one file, if it can be read at all, and what is wrong with it."""
    try:
        return _compose(_decode(data, file), file)
    except _Stop as stop:
        return None, [stop.mistake]


def _compose(text: str, file: str) -> tuple[Mapping | None, list[Mistake]]:
    composer = _Composer(file, yaml.parse(text, Loader=_PARSER))
    try:
        root = composer.document()
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text, file) from None
    except yaml.YAMLError as error:
        raise _Stop(Mark(file, 1, 1), f"is not valid YAML: {error}") from None
    return root, composer.mistakes


def _decode(data: bytes, file: str) -> str:
    if len(data) > BYTES_MAX:
        raise _Stop(Mark(file, 1, 1), f"must be at most 1 MiB, got {len(data) / 2**20:.1f} MiB")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace")
        raise _Stop(_mark_after(before, file), "must be UTF-8 text") from None
    bad = UNPRINTABLE.search(text)
    if bad:
        message = f"character U+{ord(bad[0]):04X} is not allowed here"
        raise _Stop(_mark_after(text[: bad.start()], file), message)
    return text


def _mark_after(before: str, file: str) -> Mark:
    before = before.replace("\r\n", "\n").replace("\r", "\n")
    return Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _explained(error: yaml.MarkedYAMLError, text: str, file: str) -> _Stop:
    place = error.problem_mark or error.context_mark
    problem = error.problem or "cannot be read"
    lines = text.splitlines()
    at_end = place is None or place.line >= len(lines)
    if (at_end or {error.context, problem} & _NOTICED_LATER) and error.context_mark is not None:
        place = error.context_mark
    mark = Mark(file, place.line + 1, place.column + 1) if place else Mark(file, 1, 1)
    if mark.line > len(lines):
        mark = Mark(file, max(len(lines), 1), len(lines[-1]) + 1 if lines else 1)
    if "cannot start any token" in problem:
        character = lines[mark.line - 1][mark.column - 1 : mark.column]
        if character == "\t":
            return _Stop(mark, "a tab cannot be used for indentation; use spaces")
        return _Stop(mark, f"text that starts with {character!r} must be in quotes")
    if lines and lines[mark.line - 1].startswith(_CONFLICT):
        return _Stop(mark, "a merge conflict is left here; keep one side of it")
    said = next((says for start, says in _EXPLAINED.items() if problem.startswith(start)), None)
    return _Stop(mark, said or f"is not valid YAML: {problem}")


@dataclass
class _Composer:
    """Builds the tree from events. Recursion is bounded by DEPTH_MAX."""

    file: str
    events: Iterator[yaml.Event]
    mistakes: list[Mistake] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)

    def document(self) -> Mapping | None:
        """The one document of the stream."""
        self._next()  # stream start
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            raise _Stop(Mark(self.file, 1, 1), "is empty; write services here, or remove it")
        root = self._node(self._next(), (), 1)
        self._next()  # document end
        more = self._next()
        if isinstance(more, yaml.DocumentStartEvent):
            message = "must be one YAML document; remove this '---' and what follows"
            raise _Stop(self._mark(more), message)
        if isinstance(root, Mapping):
            return root
        empty = isinstance(root, Scalar) and root.value is None
        got = "nothing" if empty else "a list" if isinstance(root, Sequence) else "text"
        raise _Stop(root.mark, f"must be a mapping such as 'app: birdhouse', got {got}")

    def _next(self) -> yaml.Event:
        return next(self.events)

    def _mark(self, event: yaml.Event) -> Mark:
        place = event.start_mark
        return Mark(self.file, place.line + 1, place.column + 1) if place else Mark(self.file, 1, 1)

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise _Stop(self._mark(event), f"must not be nested deeper than {DEPTH_MAX} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._bounded(self._alias(event), event, depth)
        name = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if name:
            self.anchors[name] = None
        node = self._bounded(self._fresh(event, path, depth), event, depth)
        if name:
            self.anchors[name] = node
        return node

    def _bounded(self, node: Node, event: yaml.Event, depth: int) -> Node:
        if node.size > NODES_MAX:
            message = f"must be at most {NODES_MAX} values, aliases expanded"
            raise _Stop(self._mark(event), message)
        if depth + node.height - 1 > DEPTH_MAX:
            message = f"must not be nested deeper than {DEPTH_MAX} levels, aliases expanded"
            raise _Stop(self._mark(event), message)
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name = event.anchor or ""
        if name not in self.anchors:
            message = f"alias {quoted('*' + name)} is not defined above; quote text that starts "
            raise _Stop(self._mark(event), message + "with '*'")
        node = self.anchors[name]
        if node is None:
            raise _Stop(self._mark(event), f"alias {quoted('*' + name)} contains itself")
        return node

    def _fresh(self, event: yaml.Event, path: Path, depth: int) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.CollectionStartEvent) and event.tag not in _OTHER_TAGS:
            raise self._tagged(event, event.tag)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, path, depth)
        return self._mapping(event, path, depth)

    def _tagged(self, event: yaml.Event, tag: object) -> _Stop:
        return _Stop(self._mark(event), f"tag {quoted(str(tag))} is not supported; remove it")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        if event.tag not in _TEXT_TAGS:
            raise self._tagged(event, event.tag)
        text: str = event.value
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise _Stop(self._mark(event), "must not contain a NUL character or half a character")
        return Scalar(self._mark(event), text, not event.style and event.tag is None)

    def _sequence(self, start: yaml.Event, path: Path, depth: int) -> Sequence:
        items: list[Node] = []
        size, height = 1, 0
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            node = self._node(event, (*path, len(items)), depth + 1)
            items.append(node)
            size, height = size + node.size, max(height, node.height)
        return Sequence(self._mark(start), tuple(items), size, height + 1)

    def _mapping(self, start: yaml.Event, path: Path, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        size, height = 1, 0
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, path)
            node = self._node(self._next(), (*path, key.text), depth + 1)
            size, height = size + 1 + node.size, max(height, node.height)
            if key.plain and key.text == "<<":
                merged += self._merged(node)
            elif key.text in entries:
                first = entries[key.text].key.line
                said = f"duplicate key {quoted(key.text)}; the first is on line {first}"
                self.mistakes.append(mistake(self._mark(event), (*path, key.text), said))
            else:
                entries[key.text] = Entry(self._mark(event), node)
        for other in merged:
            entries |= {key: entry for key, entry in other.entries.items() if key not in entries}
        return Mapping(self._mark(start), entries, size, height + 1)

    def _key(self, event: yaml.Event, path: Path) -> Scalar:
        node = self._node(event, path, DEPTH_MAX) if self._simple(event) else None
        if not isinstance(node, Scalar):
            raise _Stop(self._mark(event), "a key must be text", path)
        if not node.text and node.plain:
            raise _Stop(self._mark(event), "a key is missing before ':'", path)
        return node

    def _simple(self, event: yaml.Event) -> bool:
        return isinstance(event, yaml.ScalarEvent | yaml.AliasEvent)

    def _merged(self, node: Node) -> list[Mapping]:
        found = node.items if isinstance(node, Sequence) else (node,)
        mappings = [item for item in found if isinstance(item, Mapping)]
        if len(mappings) != len(found):
            raise _Stop(node.mark, "'<<' must be given a mapping or a list of mappings")
        return mappings
