"""A first manifest in the making: what was found, what was guessed, and how it is written down.

Terms: a *draft* is plain text values, not yet a model; *found* is what a file said, *guessed* is
what a person should look at. Text of other tools' files ends up in the manifest, so everything that
is written here is quoted where YAML would read it as something else.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from volery.manifest.mistake import Mark
from volery.manifest.yaml12 import UNPRINTABLE, Scalar

COMMAND_CHARACTERS_MAX = 4096
RUNS = "true"
"""The readiness command of what has no port to be asked on; what exits is seen anyhow."""
_PLAIN = re.compile(r"[A-Za-z0-9_./$-]([A-Za-z0-9_./$@%+=,:' -]*[A-Za-z0-9_./$@%+=,'-])?")
_OLD_WORDS = re.compile(r"(?i)y|n|yes|no|on|off|[0-9:_.]+|[0-9-][^:]*:.*")
_SAFE_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./$-]+")
_SHELL = re.compile(r"[|&;<>()`*?\[\]~#\n]|\$\(|\$\{[^}]*[^A-Za-z0-9_}]|^\s*[A-Za-z_]\w*=")


@dataclass
class DraftService:
    """One service of a draft."""

    name: str
    source: str = "."
    origin: str = ""
    build: list[str] = field(default_factory=list)
    test: str = ""
    run: str = ""
    env: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    health: dict[str, str] = field(default_factory=dict)
    scale: int = 1
    listens: bool = False
    """Whether users reach it: it gets a route."""
    exposed: bool = False
    """Whether its image says that it listens."""
    image_env: list[str] = field(default_factory=list)
    """What its image says of its environment."""
    left_out: list[str] = field(default_factory=list)
    """What else was said of it and could not be taken over."""
    tests_maybe: str = ""
    """A test command that may work; written as a comment."""


@dataclass
class Draft:
    """A manifest to be written, with what to tell the person."""

    app: str
    services: list[DraftService] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be taken over; written as comments."""


def service_name(text: str, taken: Collection[str] = ()) -> str:
    """A name that a manifest allows, as near as possible to a text, and not taken yet."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:36].strip("-") or "app"
    name = name if name[0].isalpha() else f"s-{name}"[:36].strip("-")
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name}-{number}", number + 1
    return unique


def printable(text: str) -> str:
    """Text without characters that YAML forbids."""
    return UNPRINTABLE.sub("", text)


def command(text: str) -> str:
    """A shell line as a command without a shell, or through `sh -c` where it needs one."""
    text = printable(text).strip()
    if len(text) > COMMAND_CHARACTERS_MAX:
        return ""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words or _SHELL.search(text):
        return f"sh -c {shlex.quote(text)}" if text else ""
    return text


def joined(words: Iterable[str]) -> str:
    """An argument list as one line; `$NAME` stays readable."""
    texts = (printable(word) for word in words)
    return " ".join(w if _SAFE_WORD.fullmatch(w) else shlex.quote(w) for w in texts)


def with_port(line: str, ports: Iterable[str]) -> str:
    """The line with a fixed port number replaced by `$PORT`."""
    for port in ports:
        line = re.sub(rf"(?<![\w.$-]){re.escape(port)}(?![\w.])", "$PORT", line)
    return line


def yaml_text(text: str) -> str:
    """Text as YAML, quoted where it would be read as anything else."""
    text = printable(text)
    plain = _PLAIN.fullmatch(text) and ": " not in text and not text.startswith("- ")
    if plain and text not in {"-", "---"} and not _OLD_WORDS.fullmatch(text):
        value = Scalar(Mark("", 1, 1), text, plain=True).value
        if isinstance(value, str):
            return text
    return json.dumps(text, ensure_ascii=False)


def comment(text: str) -> str:
    """Text of others on one line of a comment."""
    return "# " + " ".join(printable(text).split())[:200]
