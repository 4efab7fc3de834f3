"""What counts as one number in an answer of the query API."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.outside.metrics import BACK_OFF_SECONDS, pause
from volery.outside.prometheus import NoValue, number, reading

NOW = 1_800_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
)


def read(data: Any, status: int = 200, **headers: str) -> float:
    body = json.dumps({"status": "success", "data": data}).encode()
    return reading(status, {k.replace("_", "-"): v for k, v in headers.items()}, body, True, NOW)


def refused(data: Any, status: int = 200, **headers: str) -> NoValue:
    with pytest.raises(NoValue) as caught:
        read(data, status, **headers)
    return caught.value


def one(kind: str, result: Any) -> dict[str, Any]:
    return {"resultType": kind, "result": result}


def test_one_number() -> None:
    assert read(one("scalar", [1.5, "0.25"])) == 0.25
    assert read(one("vector", [{"metric": {}, "value": [1.5, "-1e3"]}])) == -1000
    assert read(one("vector", [{"value": [1.5, 7]}])) == 7


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (one("vector", []), "no data: no series matches the query"),
        (one("vector", [{"value": [1, "NaN"]}]), "NaN: often"),
        (one("vector", [{"value": [1, "-Inf"]}]), 'no number: "-Inf"'),
        (one("vector", [{"value": [1, True]}]), 'no number: "true"'),
        (one("vector", [{"value": [1, None]}]), 'no number: "null"'),
        (one("vector", [{"value": "1"}]), "a sample that is no pair"),
        (one("vector", [{"metric": {}}]), "a sample that is no pair"),
        (one("vector", [{"histogram": [1, {}]}]), "a histogram is no number"),
        (one("vector", ["1"]), "1 series"),
        (one("vector", [{}, {}]), "2 series: make it one number"),
        (one("scalar", []), "a sample that is no pair"),
        (one("matrix", []), "a range is no number"),
        (one("string", [1, "x"]), "no number but a string"),
        (one("streams", []), "no number but a streams"),
        ([], "no `data`"),
        (None, "no `data`"),
    ],
)
def test_no_number(data: Any, says: str) -> None:
    assert says in str(refused(data))


def test_errors_in_its_own_words() -> None:
    body = b'{"status":"error","errorType":"bad_data","error":"parse error"}'
    for status in (200, 400):
        with pytest.raises(NoValue, match=rf"^answered {status}: bad_data: parse error$"):
            reading(status, {}, body, True, NOW)
    assert str(refused(None, 500)).startswith("answered 500: {")
    with pytest.raises(NoValue, match=r"^answered 502$"):
        reading(502, {}, b"", True, NOW)


@pytest.mark.parametrize("status", [429, 503])
def test_it_may_ask_to_stay_away(status: int) -> None:
    assert f"answered {status}: asks to stay away for 30 s" in str(
        refused(None, status, retry_after="30")
    )
    assert "stay away" not in str(refused(None, status))


@given(JSON, st.sampled_from([200, 400, 429, 503]))
def test_any_json_is_a_number_or_missing_data(answer: Any, status: int) -> None:
    for body in (answer, {"status": "success", "data": answer}):
        try:
            assert isinstance(reading(status, {}, json.dumps(body).encode(), True, NOW), float)
        except NoValue as why:
            assert str(why)


@given(st.binary(max_size=200))
def test_any_bytes_are_missing_data(body: bytes) -> None:
    with pytest.raises(NoValue):
        reading(200, {}, body, True, NOW)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_is_a_number(value: float) -> None:
    assert number(repr(value)) == value


@given(st.floats(0.1, 3600), st.integers(0, 100), st.randoms(use_true_random=False))
def test_pauses(every: float, broken: int, source: random.Random) -> None:
    found = pause(every, broken, source)
    assert every <= found <= max(every, BACK_OFF_SECONDS)
    assert broken or found == every


def test_pauses_grow() -> None:
    source = random.Random(1)
    longest = [max(pause(1.0, n, source) for _ in range(200)) for n in range(9)]
    assert longest[0] == 1
    assert all(longest[n] > 2**n * 0.9 for n in range(6))
    assert longest[8] <= BACK_OFF_SECONDS
