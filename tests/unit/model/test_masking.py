"""Nothing of a secret is left in text, and nothing else is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.model.masking import Masking


def test_hides_every_occurrence() -> None:
    assert Masking(["hunter2"])("a hunter2 b hunter2") == "a *** b ***"


def test_longest_wins_and_nothing_of_it_is_left() -> None:
    assert Masking(["abcd", "abcdefgh"])("token=abcdefgh;") == "token=***;"


def test_overlapping_values_are_hidden_together() -> None:
    assert Masking(["abcdef", "defghi"])("<abcdefghi>") == "<***>"


def test_value_overlapping_itself() -> None:
    assert Masking(["abab"])("x ababab y") == "x *** y"


def test_short_values_are_left_alone() -> None:
    assert Masking(["1", "on", "yes", ""])("1 on yes") == "1 on yes"


def test_lines_of_a_key_file_are_hidden_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADAN\nab\n-----END KEY-----\n"
    shown = [Masking([key])(f"> {line}") for line in key.splitlines()]
    assert shown == ["> ***", "> ***", "> ab", "> ***"]


def test_value_with_a_final_newline_is_found_without_it() -> None:
    assert Masking(["hunter2\n"])("got hunter2!") == "got ***!"


@given(
    st.lists(st.text(alphabet="abc", min_size=4, max_size=6), max_size=4),
    st.lists(st.text(alphabet="abcxyz ", max_size=8), max_size=6),
    st.randoms(use_true_random=False),
)
def test_no_value_survives_and_the_rest_is_untouched(values, pieces, random) -> None:  # type: ignore[no-untyped-def]
    words = [*values, *pieces]
    random.shuffle(words)
    text = "".join(words)
    shown = Masking(values)(text)
    assert not any(value in shown for value in values)
    assert [c for c in shown if c in "xyz "] == [c for c in text if c in "xyz "]
    if not any(value in text for value in values):
        assert shown == text


@pytest.mark.parametrize(
    "written",
    [
        "postgres://app:p%40ss%2Fw%22o%26r%3Dd%20%C3%A4@h/db",
        "postgres://app:p%40ss%2Fw%22o&r=d%20%C3%A4@h/db",
        "user=app&password=p%40ss%2Fw%22o%26r%3Dd+%C3%A4",
        r'{"error": "for p@ss/w\"o&r=d ä"}',
        r'{"error": "for p@ss/w\"o&r=d \u00e4"}',
        r'{"error": "for p@ss/w\"o\u0026r=d ä"}',
    ],
)
def test_a_value_is_hidden_as_programs_write_it_in_urls_and_json(written: str) -> None:
    shown = Masking(['p@ss/w"o&r=d ä'])(written)
    assert "***" in shown and "ss" not in shown.replace("password", "")


def test_a_key_file_is_hidden_in_one_line_of_json() -> None:
    key = "-----BEGIN KEY-----\nabc\ndef\n-----END KEY-----\n"
    assert Masking([key])(json.dumps({"key": key})) == '{"key": "***\\n"}'
