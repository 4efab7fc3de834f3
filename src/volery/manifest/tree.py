"""Finding places in the tree of nodes, and turning it into plain data for the model.

Text stays text where the model wants text whatever it looks like: the values of `env` and the words
of commands keep their spelling (`VERSION: 1.10` is not a number).
"""

from __future__ import annotations

from volery.manifest.mistake import Mark, Path, quoted
from volery.manifest.yaml12 import Entry, Mapping, Node, Scalar, Sequence

DEPLOYED = (("services", "*"), ("environments", "*", "overrides", "*"))
TEXT_PLACES: tuple[tuple[str, ...], ...] = (
    ("services", "*", "env", "*"),
    ("environments", "*", "overrides", "*", "env", "*"),
    ("services", "*", "run", "*"),
    ("services", "*", "build", "*"),
    ("services", "*", "build", "*", "*"),
    ("services", "*", "test", "*"),
    ("services", "*", "test", "*", "*"),
    ("services", "*", "health", "*", "command", "*"),
    ("services", "*", "state", "role", "*"),
    ("services", "*", "state", "switchover", "*"),
    ("services", "*", "state", "demote", "*"),
    ("services", "*", "state", "backup", "*"),
    *((*at, "deploy", "gates", "*", "command", "*") for at in DEPLOYED),
    *((*at, "deploy", "metrics", "*", "command", "*") for at in DEPLOYED),
)


def matches(path: Path, pattern: tuple[str, ...]) -> bool:
    """Whether a path has the form of a pattern; `*` stands for any one step."""
    if len(path) != len(pattern):
        return False
    return all(form in ("*", step) for step, form in zip(path, pattern, strict=True))


def data(node: Node, path: Path = (), places: tuple[tuple[str, ...], ...] = TEXT_PLACES) -> object:
    """The node as dicts, lists and values; as written at `places`."""
    if isinstance(node, Mapping):
        return {key: data(entry.value, (*path, key), places) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [data(item, (*path, index), places) for index, item in enumerate(node.items)]
    value = node.value
    if value is not None and any(matches(path, place) for place in places):
        return node.text
    return value


def descend(root: Node, path: Path) -> tuple[Path, Node, Mark]:
    """The deepest node on the way along `path` that exists, its own path, and where to point.

    A mistake in a value points at the value; one in a block of keys points at the key of the block.
    """
    node, mark = root, root.mark
    for index, step in enumerate(path):
        entry = child(node, step)
        if entry is None:
            return path[:index], node, mark
        node = entry.value
        mark = node.mark if isinstance(node, Scalar) else entry.key
    return path, node, mark


def child(node: Node, step: str | int) -> Entry | None:
    """The entry under one step; in a list of names (`needs: [a, b]`) a name finds its item."""
    if isinstance(node, Mapping):
        return node.entries.get(step) if isinstance(step, str) else None
    if isinstance(node, Scalar):
        return None
    if isinstance(step, int):
        found = node.items[step] if step < len(node.items) else None
    else:
        named = (item for item in node.items if isinstance(item, Scalar) and item.text == step)
        found = next(named, None)
    return Entry(found.mark, found) if found else None


def key_mark(root: Node, path: Path) -> Mark:
    """Where the last key of a path stands (or the nearest place above it that exists)."""
    _, parent, mark = descend(root, path[:-1])
    entry = child(parent, path[-1]) if path else None
    return entry.key if entry else mark


def shown(node: Node) -> str:
    """A node in a few words, for `got ...`."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node.value is None:
        return "nothing"
    return quoted(node.text) if isinstance(node.value, str) else node.text
