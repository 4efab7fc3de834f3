"""Three words in braces are filled in; no other brace is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.model.placeholders import fill, placeholders, strangers

VALUES = {"service": "web", "release": "web@2", "track": "canary"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ('rate(x{service="{service}"}[1m])', 'rate(x{service="web"}[1m])'),
        ('x{r="{release}",t=~"{track}|{track}"}', 'x{r="web@2",t=~"canary|canary"}'),
        ("{service}{service}", "webweb"),
        ("{{service}}", "{web}"),
        ("${service} $service {Service} { service } {services}", None),
        ('x{} {"a": 1} {0} {service!r} {service:x} %s {', None),
        ("", None),
    ],
)
def test_fill(text: str, filled: str | None) -> None:
    assert fill(text, VALUES) == (text if filled is None else filled)


@given(st.text('{}$servicelatk"=', max_size=60))
def test_nothing_else_changes(text: str) -> None:
    pieces = re.split(r"(?<!\$)\{(?:service|release|track)\}", text)
    filled = fill(text, dict.fromkeys(VALUES, "!"))
    assert filled.split("!") == pieces


def test_what_was_filled_in_is_not_looked_at_again() -> None:
    assert fill("{service}", VALUES | {"service": "{track}"}) == "{track}"


def test_which_there_are() -> None:
    assert placeholders('{track} x{release="{release}"} ${service} {x}') == {"track", "release"}
    assert strangers('x{a="{relase}"} {service} {b="c"} ${d} {e f} {}') == ("relase",)
