"""Reads the answer of a Prometheus instant query (`GET /api/v1/query`): one number, or why not.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries. One number is a
scalar, or a vector of exactly one sample. Everything else (no sample, several, NaN, an infinity, a
histogram, an error, no JSON) is *missing data*, neither good nor bad: `NoValue`. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from volery.calls.retry import wanted_rest
from volery.outside.wording import first_line

BODY_BYTES = 2**20
AGGREGATE = "make it one number, for example with sum(...)"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


class NoValue(Exception):
    """Why there is no number."""


def number(text: str) -> float:
    """The finite number a text is. Raises NoValue."""
    if _NUMBER.fullmatch(text):
        value = float(text)
        if math.isfinite(value):
            return value
    raise NoValue(f'no number: "{text}"')


def reading(status: int, headers: Mapping[str, str], body: bytes, whole: bool, now: float) -> float:
    """The number in an answer; `now` is Unix seconds. Raises NoValue."""
    if rest := wanted_rest(status, headers, now):
        raise NoValue(f"answered {status}: asks to stay away for {rest:.0f} s")
    if not whole:
        raise NoValue(f"more than {BODY_BYTES // 2**10} KiB of answer: {AGGREGATE}")
    answer = _parsed(body)
    if status != 200 or answer.get("status") != "success":
        raise NoValue(_refusal(status, answer, body))
    data = answer.get("data")
    if not isinstance(data, dict):
        raise NoValue("no `data` in the answer: is this a Prometheus API?")
    return _value(data.get("resultType"), data.get("result"))


def _parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in it, an empty one if there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(status: int, answer: dict[str, Any], body: bytes) -> str:
    if isinstance(answer.get("error"), str):
        return f"answered {status}: {answer.get('errorType') or 'error'}: {answer['error']}"
    if status != 200:
        said = first_line(body)
        return f"answered {status}: {said}" if said else f"answered {status}"
    return "the answer is no JSON of a Prometheus API"


def _value(kind: object, result: object) -> float:
    match kind, result:
        case "scalar", list():
            return _sample(result)
        case "vector", []:
            raise NoValue("no data: no series matches the query")
        case "vector", [dict() as series]:
            if "value" not in series and "histogram" in series:
                raise NoValue("a histogram is no number: use histogram_quantile(...)")
            return _sample(series.get("value"))
        case "vector", list():
            raise NoValue(f"{len(result):,} series: {AGGREGATE}")
        case "matrix", _:
            raise NoValue("a range is no number: use rate(...) or another function over time")
        case _:
            raise NoValue(f"the query gives no number but a {kind}")


def _sample(pair: object) -> float:
    """`[time, "value"]`."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise NoValue("a sample that is no pair of time and value")
    text = pair[1] if isinstance(pair[1], str) else json.dumps(pair[1])
    if text == "NaN":
        raise NoValue("NaN: often 0 divided by 0, nothing was counted")
    return number(text)
