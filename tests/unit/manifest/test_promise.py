"""A promise in one line."""

from __future__ import annotations

import pytest

from volery.manifest.promise import promise


@pytest.mark.parametrize(
    "text",
    [
        "errors: < 2%, latency: {p99: < 1s}",
        "{errors: < 2%, latency: {p99: < 1s}}",
        "steady_state: {errors: < 2%, latency: {p99: < 1s}}",
        "steady_state: errors: < 2%, latency: {p99: < 1s}",
    ],
)
def test_it_may_be_written_in_several_ways(text: str) -> None:
    found = promise(text)
    assert found.errors is not None and found.errors.value == 0.02
    assert found.latency["p99"].value == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("errors: 2", "errors: must be a condition"),
        ("eror: < 2%", "eror"),
        ("{", "a value is expected"),
        ("", "nothing"),
        ("errors: '> 2%'", "upper limit"),
        ("errors: < 1%" + " " * 2000 + ", latency: {}", "too long"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        promise(text)
    assert said in str(refused.value)
