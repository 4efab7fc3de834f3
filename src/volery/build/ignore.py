"""Which files are source: the rules of `.gitignore`, and `.voleryignore` with the same syntax.

Patterns are matched exactly like git matches them: on bytes, one path at a time while walking
down, the deepest file first and in it the last line first; what is in an ignored folder stays
ignored. The general-purpose library (pathspec) decides whole paths at once and disagrees with git
on about one random tree in fifty, mostly by keeping what should be left out.

Two differences to git are on purpose: the index is not asked (a committed file that matches is
left out), and some folders are never source: see `never_source`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

NEVER_NAMES = (b".git", b".volery", b"volery.yaml", b"__pycache__", b".DS_Store")
NEVER_ENDS = (b".pyc", b"~", b".swp")
IGNORE_FILES = (".gitignore", ".voleryignore")
BYTES_MAX = 2**20
_CLASSES = {
    b"alnum": b"0-9A-Za-z",
    b"alpha": b"A-Za-z",
    b"blank": b" \\t",
    b"cntrl": b"\\x00-\\x1f\\x7f",
    b"digit": b"0-9",
    b"graph": b"!-~",
    b"lower": b"a-z",
    b"print": b" -~",
    b"punct": b"!-/:-@\\[-`{-~",
    b"space": b" \\t-\\r",
    b"upper": b"A-Z",
    b"xdigit": b"0-9A-Fa-f",
}


class _NoPattern(ValueError):
    """A pattern that cannot match anything."""


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file."""

    regex: re.Pattern[bytes]
    keeps: bool
    """It starts with `!`: what matches is source after all."""
    folders_only: bool
    by_name: bool
    """It has no slash: it is about the last part of a path."""

    def matches(self, path: bytes, is_folder: bool) -> bool:
        """Whether the rule is about this path, given from the folder of its file."""
        if self.folders_only and not is_folder:
            return False
        name = path.rpartition(b"/")[2] if self.by_name else path
        return self.regex.fullmatch(name) is not None


@dataclass(frozen=True)
class Rules:
    """The rules of one folder; `base` is its path, ending in a slash unless it is the top."""

    base: bytes
    rules: tuple[Rule, ...]

    def verdict(self, path: bytes, is_folder: bool) -> bool | None:
        """Whether this path is ignored; None if no rule of this folder is about it."""
        inside = path[len(self.base) :]
        found = (rule for rule in reversed(self.rules) if rule.matches(inside, is_folder))
        rule = next(found, None)
        return None if rule is None else not rule.keeps


def ignored(chain: Sequence[Rules], path: bytes, is_folder: bool) -> bool:
    """Whether the rules on the way down to this path, topmost first, leave it out."""
    for rules in reversed(chain):
        verdict = rules.verdict(path, is_folder)
        if verdict is not None:
            return verdict
    return False


def never_source(name: bytes) -> bool:
    """What is left out whatever the rules say: git's own, ours, and what Python, editors and
    desktops leave behind.
    What a manifest means for a release is part of it already: with `source: .` the rest of it, of
    other services and comments, would make each of its changes a new release of this one. A file of
    it that is called otherwise is known to who applies it, and left out by the walk.

    Virtual environments are left out too, by the walk, which can see their `pyvenv.cfg`: they
    hold absolute paths and cannot be copied.
    """
    return name in NEVER_NAMES or name.endswith(NEVER_ENDS)


def read_rules(folder: Path, base: bytes) -> Rules | None:
    """The rules a folder brings; None if it brings none."""
    rules = tuple(rule for name in IGNORE_FILES for rule in _rules_in(folder / name))
    return Rules(base, rules) if rules else None


def rules_above(folder: Path) -> tuple[tuple[Rules, ...], bytes]:
    """The rules of the folders above `folder`, up to the top of its git repository, and its path
    below that top. No rules without a repository.

    A rule that leaves out `folder` itself is dropped: the manifest names it, so it is source.
    """
    top = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
    if top is None or top == folder:
        return (), b""
    parts = folder.relative_to(top).parts
    paths = [os.fsencode("/".join(parts[:depth])) for depth in range(len(parts) + 1)]
    chain: list[Rules] = []
    for depth in range(len(parts)):
        base = paths[depth] + b"/" if depth else b""
        named = [path[len(base) :] for path in paths[depth + 1 :]]
        rules = read_rules(top.joinpath(*parts[:depth]), base)
        if rules:
            kept = (r for r in rules.rules if not any(r.matches(path, True) for path in named))
            chain.append(replace(rules, rules=tuple(kept)))
    return tuple(chain), paths[-1] + b"/"


def _rules_in(path: Path) -> Iterator[Rule]:
    try:  # like git: a link or anything else that is no plain file has no rules
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(BYTES_MAX)
    except (FileNotFoundError, IsADirectoryError):
        return
    except OSError:
        if path.is_symlink():
            return
        raise
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        rule = parse(line)
        if rule:
            yield rule


def parse(line: bytes) -> Rule | None:
    """The rule a line of an ignore file states; None for comments and what can match nothing."""
    if line.startswith(b"#"):
        return None
    line = _without_spaces_at_end(line.removesuffix(b"\r"))
    keeps = line.startswith(b"!")
    pattern = line[1:] if keeps else line
    folders_only = pattern.endswith(b"/")
    pattern = pattern[:-1] if folders_only else pattern
    by_name = b"/" not in pattern
    try:
        regex = _translate(pattern.removeprefix(b"/"))
    except _NoPattern:
        return None
    return Rule(re.compile(regex, re.DOTALL), keeps, folders_only, by_name) if pattern else None


def _without_spaces_at_end(line: bytes) -> bytes:
    bare = line.rstrip(b" ")
    backslashes = len(bare) - len(bare.rstrip(b"\\"))
    return line[: len(bare) + 1] if backslashes % 2 else bare


def _translate(pattern: bytes) -> bytes:
    """A pattern as a regular expression for the whole path."""
    out, at = [], 0
    while at < len(pattern):
        piece = pattern[at : at + 1]
        if piece == b"*":
            regex, at = _stars(pattern, at)
        elif piece == b"[":
            regex, at = _bracket(pattern, at + 1)
        elif piece == b"?":
            regex, at = b"[^/]", at + 1
        else:
            literal, at = _literal(pattern, at)
            regex = re.escape(literal)
        out.append(regex)
    return b"".join(out)


def _stars(pattern: bytes, start: int) -> tuple[bytes, int]:
    """`*` is within one part of a path; `**` between slashes is any number of parts."""
    end = start
    while pattern[end : end + 1] == b"*":
        end += 1
    alone = start == 0 or pattern[start - 1 : start] == b"/"
    if end - start == 1 or not alone or pattern[end : end + 1] not in (b"", b"/"):
        return b"[^/]*", end
    return (b"(?:.*/)?", end + 1) if end < len(pattern) else (b".*", end)


def _literal(pattern: bytes, at: int) -> tuple[bytes, int]:
    """One character, the next one if it is a backslash."""
    if pattern[at : at + 1] == b"\\":
        at += 1
    if at >= len(pattern):
        raise _NoPattern
    return pattern[at : at + 1], at + 1


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    """`[a-c]`, `[!a]`, `[[:alpha:]]`; the part after the opening bracket. Never a slash."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    parts: list[bytes] = []
    low = b""
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        named = re.compile(rb"\[:([^\]]*):\]").match(pattern, at)
        if named:
            if named[1] not in _CLASSES:
                raise _NoPattern
            parts.append(_CLASSES[named[1]])
            low, at = b"", named.end()
        elif low and pattern[at : at + 1] == b"-" and pattern[at + 1 : at + 2] not in (b"", b"]"):
            high, at = _literal(pattern, at + 1)
            parts.append(re.escape(low) + b"-" + re.escape(high) if low <= high else b"")
            low = b""
        else:
            low, at = _literal(pattern, at)
            parts.append(re.escape(low))
    inside = b"".join(parts)
    if not inside:
        return (b"[^/]" if negated else b"(?!)"), at + 1
    return b"(?!/)[" + (b"^" if negated else b"") + inside + b"]", at + 1
