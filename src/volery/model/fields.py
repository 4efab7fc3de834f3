"""The forms values may take in a manifest: units, names, commands, limits.

Each is a pydantic type that reads the written form, says in our words what is wrong with another
one, and describes itself in the JSON Schema. Normal forms are plain: seconds, bytes, fractions,
tuples of words.
"""

from __future__ import annotations

import re
import shlex
import string
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from volery.model.names import NAME
from volery.model.units import (
    Condition,
    parse_condition,
    parse_duration,
    parse_percent,
    parse_size,
)

_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.", re.DOTALL)
_SUBSTITUTION = re.compile(r"(?<!\\)(?:\$\(|`|\$\{\w+:?[-+=?])")
_SHELL = re.compile(
    r"&&|\|\||[|;&](?!\S)|(?<!\S)[|;&]|(?<!\S)[0-9]*[<>]"
    rf"|{_SUBSTITUTION.pattern}|^(?:exec\s|[A-Za-z_]\w*=)"
)
"""What only a shell understands. An operator inside a word (`a;b`, `?x=1&y=2`) may be meant as it
is; one that begins or ends a word is not."""
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*(k|M|G|T|Ki|Mi|Gi|Ti)?B?$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?\s*%$"
CONDITION_PATTERN = r"^(<=?|>=?)\s*-?\.?[0-9]\S*(\s+%)?$"
UNIT_CHARACTERS_MAX = 64
SHORTEST_SECONDS = 0.001
"""Of a time limit: Envoy counts in milliseconds, and takes 0 for no limit or refuses it."""
FRAMING_HEADERS = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
LEAST_SHARE = 0.0001
"""Of the requests, that a step may give."""
WRITTEN = {"written": True}
"""Validation context of a manifest: a bare number has no unit there and is a mistake. Without it,
plain numbers are values of ours coming back as JSON."""


class Short:
    """Says in the JSON Schema that a field may also be written in a shorter form."""

    def __init__(self, *forms: dict[str, Any], description: str = "") -> None:
        self.forms = forms
        self.description = description

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The short forms or the long one."""
        said = {"description": self.description} if self.description else {}
        return {"anyOf": [*self.forms, handler(core_schema)], **said}


def _schema(kind: str, pattern: str, example: str, description: str) -> Any:
    return WithJsonSchema(
        {"type": kind, "pattern": pattern, "examples": [example], "description": description}
    )


def is_written(info: ValidationInfo) -> bool:
    """Whether somebody writes it now; what was stored when more was allowed stays readable."""
    return bool((info.context or {}).get("written"))


def _text_unit(parse: Callable[[str], object], phrase: str) -> BeforeValidator:
    def read(value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and len(value) <= UNIT_CHARACTERS_MAX:
            return parse(value)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and not is_written(info):
            return value
        meant = f"; did you mean {value:g}s?" if plain and parse is parse_duration else ""
        raise ValueError(f"must be {phrase}, got {value}{meant}" if meant else f"must be {phrase}")

    return BeforeValidator(read)


def _form(pattern: str, phrase: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None or "\n" in value:
            raise ValueError(f"must be {phrase}, got {value!r}")
        return value

    return check


def _matching(pattern: str, phrase: str) -> tuple[AfterValidator, WithJsonSchema]:
    """Text of one form: `phrase` says which, the JSON Schema gets the pattern."""
    form = _form(pattern, phrase)
    return AfterValidator(form), WithJsonSchema({"type": "string", "pattern": pattern})


def _newly(pattern: str, phrase: str) -> tuple[AfterValidator, WithJsonSchema]:
    """A narrower form, only for what is written: what was stored before must still be readable."""
    form = _form(pattern, phrase)

    def check(value: str, info: ValidationInfo) -> str:
        return form(value) if is_written(info) else value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": pattern})


def _condition(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and len(value) <= UNIT_CHARACTERS_MAX:
        return parse_condition(value)
    if isinstance(value, str) or is_written(info):
        raise ValueError("must be a condition such as '< 1%' or '<= 300ms'")
    return value


def _some_time(value: float, info: ValidationInfo) -> float:
    """Less is refused only where it is written: what was stored before must still be readable."""
    if value < SHORTEST_SECONDS and is_written(info):
        raise ValueError(
            f"must be at least 1ms, got {value:g}s; 0s is not 'no limit': "
            "leave it out for the default"
        )
    return value


def _upper_limit(unit: str, example: str) -> AfterValidator:
    def check(value: Condition) -> Condition:
        if value.unit != unit or value.operator not in ("<", "<="):
            raise ValueError(f"must be an upper limit such as '{example}'")
        return value

    return AfterValidator(check)


def at_most(most: float, phrase: str) -> AfterValidator:
    """An upper limit of what is written; what was stored when there was none stays readable."""

    def check(value: float, info: ValidationInfo) -> float:
        if value > most and is_written(info):
            raise ValueError(f"must be at most {phrase}")
        return value

    return AfterValidator(check)


def _command(value: object) -> object:
    """A command is an argument list; text is split like a shell would, but no shell runs it.

    Unless it asks for one: a shell's operator outside of quotes (`a && b`) means `sh -c 'a && b'`,
    and several lines are a script that ends at the first command that fails, `sh -ec`.
    """
    if isinstance(value, bool | int | float):
        written = str(value).lower()
        raise ValueError(f'must be a command, got {written}; write it in quotes: "{written}"')
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        words = shlex.split(text)
    except ValueError as error:
        if "\n" in text:  # to a shell, comments and here documents may have lone quotes
            return ["sh", "-ec", text]
        reason = str(error).lower()
        raise ValueError(f"cannot be split into words: {reason} in {value!r}") from None
    if not words or not words[0]:
        raise ValueError("must be a command, got nothing")
    asks_for_shell = _SHELL.search(_QUOTED.sub(_unquoted, text)) is not None
    if _is_script(text, words, asks_for_shell):
        return ["sh", "-ec", text]
    return ["sh", "-c", value] if asks_for_shell else words


def _unquoted(quoted: re.Match[str]) -> str:
    """What is left of quoted text for a shell to act on: it substitutes in double quotes too."""
    found = _SUBSTITUTION.search(quoted[0]) if quoted[0].startswith('"') else None
    return found[0] if found else "_"


def _is_script(text: str, words: list[str], has_operators: bool) -> bool:
    """Whether a line ends outside of quotes, where to a shell a new command begins.

    Lines without operators that are all indented below the first go on with it: `>` in YAML leaves
    them as lines.
    """
    if "\\\n" in text:
        return True
    indented = all(line[:1].isspace() for line in text.split("\n")[1:] if line)
    if indented and not has_operators:
        return False
    return text.count("\n") > sum(word.count("\n") for word in words)


def _commands(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_line(value: str, info: ValidationInfo) -> str:
    if is_written(info) and not value.isprintable():
        raise ValueError("must be one line of text")
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def _scalar_text(value: object) -> object:
    """Environment values may be written as numbers or booleans; a process only knows text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError(
            f"must be an IP address such as 127.0.0.1 or 0.0.0.0, got {value!r}"
        ) from None
    return value


def _reachable(value: str) -> str:
    try:
        parts = urlsplit(value)
        fine = bool(parts.hostname) and parts.port != 0 if parts.scheme else True
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("must have a host name, and a port from 1 to 65535 if it has one")
    return value


def _no_framing(value: str) -> str:
    if value.lower() in FRAMING_HEADERS:
        raise ValueError(f"{value!r} is set by whoever sends the request")
    return value


def ascending(steps: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    """Shares that only grow; in a manifest one at least that something can be told at, though one
    of ours from before may have none."""
    before = 0.0
    for step in steps:
        if step <= before:
            raise ValueError(f"must ascend, got {step * 100:g}% after {before * 100:g}%")
        before = step
    if not is_written(info):
        return steps
    if not steps or steps[0] >= 1:
        raise ValueError(
            "must have a share below 100%; strategy: blue-green gives all requests at once"
        )
    if steps[0] < LEAST_SHARE:
        raise ValueError(f"must begin with {LEAST_SHARE * 100:g}% or more, got {steps[0] * 100:g}%")
    return steps


def needs_form(value: object) -> object:
    """`[a, b]` and `{a: }` are short for `{a: {}, b: {}}`."""
    if isinstance(value, list):
        wrong = next((need for need in value if not isinstance(need, str)), None)
        if wrong is not None or None in value:
            raise ValueError("must be a list of service names, or a mapping of them to policies")
        twice = next((need for need, count in Counter(value).items() if count > 1), None)
        if twice:
            raise ValueError(f"must name each service once, got {twice!r} twice")
        return {need: {} for need in value}
    if isinstance(value, dict):
        return {need: {} if policy is None else policy for need, policy in value.items()}
    return value


Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, AfterValidator(_no_nul)]
Line = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[
    str,
    *_matching(NAME, "a name of lower-case letters, digits and '-' (at most 40, a letter first)"),
]
EnvName = Annotated[
    str, *_matching(r"^[A-Za-z_][A-Za-z0-9_]*$", "a variable name such as LOG_LEVEL")
]
UrlPath = Annotated[
    str,
    *_matching(r"^/[^\s?#]*$", "a path such as /api"),
    *_newly(
        r"""^(?!.*/\.\.?(/|$))/[^\s?#*{}\[\]|^<>"`\\]*$""",
        "the beginning of paths such as /api, without a pattern, '.' or '..'",
    ),
]


def prefix_of(path: str) -> str:
    """A route's path as requests have it, in which what is not ASCII is escaped; without a slash at
    its end."""
    return quote(path.rstrip("/"), safe=string.punctuation, errors="replace")


ProbePath = Annotated[str, *_matching(r"^/[^\s#]*$", "a path such as /healthz")]
Token = Annotated[
    str, *_matching(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$", "a cookie or header name such as x-user")
]
HeaderName = Annotated[Token, AfterValidator(_no_framing)]
HeaderText = Annotated[
    str, *_matching(r"^[^\x00-\x08\x0a-\x1f\x7f]*$", "one line without control characters")
]
HeaderValue = Annotated[
    str,
    *_matching(
        r"^[!-~]([ -~]{0,254}[!-~])?$", "1 to 256 printable ASCII characters, no space around them"
    ),
]
Url = Annotated[
    str,
    *_matching(r"^(?=.)(https?://[^\s/?#]+)?(/[^\s#]*)?$", "a URL such as http://127.0.0.1:9090"),
    AfterValidator(_reachable),
]
HostName = Annotated[
    str,
    *_matching(r"^[A-Za-z0-9.*-]+$", "a host name such as shop.example.com"),
    *_newly(
        r"^(\*|(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*)$",
        "a host name such as shop.example.com, or *.example.com for all below it",
    ),
]
Address = Annotated[
    str,
    AfterValidator(_address),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1", "0.0.0.0"]}),
]
EnvValue = Annotated[
    Text,
    BeforeValidator(_scalar_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Duration = Annotated[
    float,
    _text_unit(parse_duration, "a duration such as 300ms, 2s, 10m or 1h"),
    at_most(30 * 86400, "30d"),
    Field(ge=0, le=30 * 86400),
    _schema("string", DURATION_PATTERN, "10s", "A duration: 300ms, 2s, 10m, 1h"),
]
TimeLimit = Annotated[Duration, AfterValidator(_some_time)]
LongDuration = Annotated[Duration, Field(gt=0)]
Size = Annotated[
    int,
    _text_unit(parse_size, "a size such as 256Mi or 1Gi"),
    Field(gt=0),
    at_most(2**50, "1024Ti"),
    _schema("string", SIZE_PATTERN, "256Mi", "A size: 256Mi, 1Gi"),
]
Percent = Annotated[
    float,
    _text_unit(parse_percent, "a percentage such as 5%"),
    Field(ge=0, le=1),
    _schema("string", PERCENT_PATTERN, "5%", "A percentage: 5%"),
]
Limit = Annotated[
    Condition,
    BeforeValidator(_condition),
    _schema("string", CONDITION_PATTERN, "< 1%", "A condition: < 1%, <= 300ms, >= 99.9%"),
]
ErrorLimit = Annotated[Limit, _upper_limit("fraction", "< 1%")]
LatencyLimit = Annotated[Limit, _upper_limit("seconds", "< 300ms")]
_WORDS = {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1}
_ONE = {"anyOf": [{"type": "string"}, _WORDS]}
Command = Annotated[
    tuple[Text, ...],
    BeforeValidator(_command),
    Field(min_length=1),
    WithJsonSchema(
        _ONE
        | {
            "description": "A command: split into words; a shell runs it only if it has operators "
            "or several lines"
        }
    ),
]
Commands = Annotated[
    tuple[Command, ...],
    BeforeValidator(_commands),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "array", "items": _ONE}],
            "description": "One command, or a list of commands run one after the other",
        }
    ),
]
