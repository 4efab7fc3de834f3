"""One instance against its siblings: what is told apart, how soon, and what is no proof."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from volery.decide.outliers import ENOUGH, Watched, look, outliers
from volery.model.evidence import Arm, bucket

TICK = 0.5
Serve = Callable[[random.Random, int], tuple[bool, float]]


def well(line: random.Random, number: int) -> tuple[bool, float]:
    del number
    return line.random() < 0.001, line.lognormvariate(3.0, 0.8)


def failing(share: float) -> Serve:
    def serve(line: random.Random, number: int) -> tuple[bool, float]:
        failed, ms = well(line, number)
        return failed or (number == 1 and line.random() < share), ms

    return serve


def slower(times: float, share: float = 1.0) -> Serve:
    def serve(line: random.Random, number: int) -> tuple[bool, float]:
        failed, ms = well(line, number)
        return failed, ms * (times if number == 1 and line.random() < share else 1.0)

    return serve


def found_after(serve: Serve, rate: float, seconds: float, seed: int = 1) -> tuple[float, str]:
    """When one of three was found (infinity: never) after 30 s of all being well, and which."""
    line, watched = random.Random(seed), Watched()
    before, time = 30.0, 0.0
    while time < before + seconds:
        time += TICK
        arms = {}
        for number in (1, 2, 3):
            answers = [
                (serve if time > before else well)(line, number)
                for _ in range(_poisson(line, rate * TICK))
            ]
            latency: dict[int, int] = {}
            for _, ms in answers:
                latency[bucket(ms)] = latency.get(bucket(ms), 0) + 1
            arms[f"web-1-{number}"] = Arm(len(answers), sum(bad for bad, _ in answers), latency)
        watched = look(watched, arms, TICK)
        if found := outliers(watched):
            (ailment,) = found.values()
            return time - before, f"{ailment.instance} {ailment.kind}"
    return math.inf, ""


def _poisson(line: random.Random, mean: float) -> int:
    count, left = 0, math.exp(-mean)
    product = line.random()
    while product > left:
        count, product = count + 1, product * line.random()
    return count


@pytest.mark.parametrize(
    ("serve", "kind", "within"),
    [
        (failing(1.0), "errors", 15),
        (failing(0.1), "errors", 60),
        (failing(0.01), "errors", 900),
        (slower(10), "slow", 30),
        (slower(3), "slow", 90),
        (slower(20, share=0.05), "slow", 900),
    ],
    ids=["all fail", "10 % fail", "1 % fail", "10x slower", "3x slower", "5 % are slow"],
)
def test_one_that_is_worse_is_found(serve: Serve, kind: str, within: float) -> None:
    after, what = found_after(serve, rate=20.0, seconds=within)
    assert what == f"web-1-1 {kind}", f"found {what!r} after {after}"
    print(f"found after {after:.0f} s at 20 requests a second")


@pytest.mark.parametrize("seed", range(4))
def test_equals_are_left_alone(seed: int) -> None:
    assert found_after(well, 20.0, 1200.0, seed) == (math.inf, "")


def test_what_all_of_them_do_is_nobodys_fault() -> None:
    def serve(line: random.Random, number: int) -> tuple[bool, float]:
        failed, ms = well(line, number)
        return failed or line.random() < 0.5, ms * 10

    assert found_after(serve, 20.0, 600.0) == (math.inf, "")


def test_one_short_stall_is_no_proof() -> None:
    arms = {"a": Arm(200, 200, {}), "b": Arm(200, 0, {}), "c": Arm(200, 0, {})}
    watched = look(Watched(), arms, 1.0)
    assert not outliers(watched)
    for _ in range(30):
        watched = look(watched, {key: Arm(200, 0, {}) for key in arms}, 1.0)
    assert not outliers(watched)


def test_without_a_sibling_there_is_nothing_to_compare() -> None:
    watched = Watched()
    for _ in range(60):
        watched = look(watched, {"a": Arm(100, 100, {})}, 1.0)
    assert not outliers(watched)


def test_who_left_is_forgotten() -> None:
    watched = look(Watched(), {key: Arm(10, 5, {}) for key in "abc"}, 1.0)
    assert set(look(watched, {key: Arm(10, 0, {}) for key in "ab"}, 1.0).scores) == {"a", "b"}


def test_the_evidence_is_said() -> None:
    watched = Watched()
    arms = {"a": Arm(50, 50, {}), "b": Arm(50, 0, {}), "c": Arm(50, 0, {})}
    while not (found := outliers(watched)):
        watched = look(watched, arms, 1.0)
    assert found["a"].evidence["odds"] >= ENOUGH
    assert "of its siblings 0 of" in found["a"].text
