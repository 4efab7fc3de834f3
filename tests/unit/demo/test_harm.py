"""Which failed requests a bad release is to blame for, from the proxies' record."""

from __future__ import annotations

import json

import pytest

from volery.demo.harm import GATEWAY, Window, failed_by, parse

WINDOW = Window("catalog~b", "2026-01-01T10:00:00.000Z", "2026-01-01T10:00:09.000Z")
INSIDE, AFTER = "2026-01-01T10:00:05.000Z", "2026-01-01T10:00:10.000Z"


def line(identity: str, status: int = 200, **more: object) -> str:
    """One line as Envoy writes it."""
    fields = {
        "at": INSIDE,
        "via": GATEWAY,
        "cluster": "catalog~b",
        "flags": "-",
        "status": status,
        "request": identity,
    }
    return json.dumps(fields | more, separators=(",", ":"))


def blamed(*lines: str) -> set[str]:
    """What the release in the window is blamed for."""
    return set(failed_by(WINDOW, list(parse(lines))))


def test_its_own_answers_and_its_own_crash() -> None:
    assert blamed(line("good"), line("error", 500), line("cut", 503, flags="UC")) == {
        "error",
        "cut",
    }
    assert blamed(line("halfway", 200, flags="UC,DC")) == {"halfway"}


def test_what_the_old_release_or_the_machinery_failed() -> None:
    assert blamed(line("old", 500, cluster="catalog~a")) == set()
    assert blamed(line("nowhere", 503, flags="NR", cluster=None)) == set()
    assert blamed(line("later", 500, at=AFTER)) == set()


def test_a_caller_that_failed_because_of_it() -> None:
    page = line("page", 502, cluster="storefront~a")
    edge = line("page", 500, via="storefront~a~catalog")
    assert blamed(page, edge) == {"page"}
    assert blamed(page) == set()
    assert blamed(line("page", 200, cluster="storefront~a"), edge) == set(), "the user got a page"


def test_requests_that_no_user_sent() -> None:
    assert blamed(line("ours", 500, via="synthetic.volery~a~catalog~1")) == set()


@pytest.mark.parametrize("text", ["[info] hello", '{"at":"2026', '{"at": 3}', '{"at":null}', ""])
def test_what_is_no_request(text: str) -> None:
    assert list(parse([text])) == []
