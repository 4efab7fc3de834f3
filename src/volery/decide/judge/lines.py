"""The evidence on each metric in a line that a person can read, with its numbers for JSON.

For example: `errors 4.1 % against 0.3 %, limit +0.5 %, n = 1,240, evidence 3,200:1 against`.
Values are of the current step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from volery.decide.judge.bets import Counts, wealth
from volery.decide.judge.policy import Policy, cold_shift, coldness
from volery.decide.judge.settled import excused
from volery.decide.judge.state import Counter, Level, Promise, State, against_promise, weight
from volery.decide.judge.tails import quantiles
from volery.decide.judge.trust import confidence
from volery.model.evidence import BUCKETS_PER_OCTAVE, Line, floor_ms

Word = Literal["good", "bad", "undecided", "missing"]
HALF_BUCKET = 2 ** (0.5 / BUCKETS_PER_OCTAVE)
TIMES = {"saturation": "at a limit", "probes": "failed probes"}
ANY = 10.0
"""Odds below this are not worth telling."""


def percent(share: float) -> str:
    """`4.1 %`, `0.03 %`, `12 %`."""
    value = share * 100
    if value < 0.0001 or value >= 9.95:
        return f"{value:.0f} %"
    if value >= 0.0995:
        return f"{value:.1f} %"
    return f"{value:.4f}".rstrip("0") + " %"


def odds(evidence: float) -> str:
    """`3,200:1`, `1.4:1`; what is beyond a million is just that."""
    if evidence >= 1e6:
        return "over 1,000,000:1"
    if evidence < ANY:
        return f"{evidence:.2g}:1"
    size = 10 ** max(0, math.floor(math.log10(evidence)) - 1)
    return f"{math.floor(evidence / size) * size:,.0f}:1"


def milliseconds(value: float) -> str:
    """`257 ms`, `3.4 ms`, `1.2 s`."""
    if value >= 1000:
        return f"{value / 1000:.2g} s" if value < 9950 else f"{value / 1000:,.0f} s"
    return f"{value:.0f} ms" if value >= 9.95 else f"{value:.2g} ms"


def lines_of(policy: Policy, state: State) -> tuple[Line, ...]:
    """One line for each metric and for each promise."""
    wanted = [level.quantile for level in state.levels.values()]
    values = [_quantiles_ms(arm, wanted) for arm in (state.latency, state.latency_control)]
    cold = coldness(policy, state.age)
    levels = [
        _latency(policy, state.counters[name], name, level, cold, value, control)
        for (name, level), value, control in zip(state.levels.items(), *values, strict=True)
    ]
    promises = [promise_line(policy, state, *item) for item in state.promises.items()]
    rest = [
        _exits(policy, state),
        *(_times(policy, state, name) for name in TIMES if name in state.counters),
    ]
    return (_errors(policy, state), *levels, *rest, *promises)


def worst(state: State, lines: tuple[Line, ...]) -> str:
    """The line with the most evidence against the release, weighted as it counts."""

    def counts(line: Line) -> float:
        name = line.metric
        return line.evidence * (weight(state, name) if name in state.counters else 1 / 20)

    return max(lines, key=counts).text


def _word(policy: Policy, bets: float, trust: float | None, n: float) -> Word:
    if n <= 0:
        return "missing"
    if bets >= 1 / policy.alpha:
        return "bad"
    return "good" if trust is not None and trust >= 1 / policy.beta else "undecided"


def _said(bets: float, trust: float | None) -> str:
    if bets >= ANY or trust is None:
        return f", evidence {odds(bets)} against" if bets >= ANY else ""
    return f", evidence {odds(trust)} in favour"


def _line(
    policy: Policy,
    metric: str,
    counter: Counter,
    text: str,
    gates: bool,
    values: tuple[float | None, float | None, float | None],
) -> Line:
    bets = wealth(counter.bets)
    trust = confidence(counter.trust) if gates else None
    word = _word(policy, bets, trust, counter.n)
    said = f"{text}{_said(bets, trust)}" if word != "missing" else f"{metric}: nothing seen yet"
    return Line(
        metric,
        word,
        said,
        *values,
        n=round(counter.n),
        n_control=round(counter.n_control),
        evidence=bets,
        confidence=trust if trust is not None else 1.0,
        needed=1 / policy.beta if gates else 1.0,
    )


def _errors(policy: Policy, state: State) -> Line:
    counter = state.counters["errors"]
    value, control = _share(counter.k, counter.n), _share(counter.k_control, counter.n_control)
    cold = policy.cold_errors * excused(policy, state, coldness(policy, state.age))
    limit = policy.rho * (control or 0.0) + policy.delta + cold
    text = (
        f"errors {percent(value or 0)} against {percent(control or 0)},"
        f" limit +{percent(limit - (control or 0))}, n = {counter.n:,.0f}"
    )
    return _line(policy, "errors", counter, text, True, (value, control, limit))


def control_failed(errors: Counter | Counts) -> str:
    """Which share of the control's requests failed."""
    return percent(errors.k_control / errors.n_control) if errors.n_control else "nothing"


def _latency(
    policy: Policy,
    counter: Counter,
    name: str,
    level: Level,
    cold: float,
    value: float | None,
    control: float | None,
) -> Line:
    limit = floor_ms(level.edge + level.shift + cold_shift(policy, cold))
    text = f"{name} {_ms(value)} against {_ms(control)}, limit {_ms(limit)}, n = {counter.n:,.0f}"
    return _line(policy, name, counter, text, True, (value, control, limit))


def _quantiles_ms(histogram: Mapping[int, int], levels: Sequence[float]) -> list[float | None]:
    """The middles of the buckets in which quantiles lie."""
    return [
        None if bucket is None else floor_ms(bucket) * HALF_BUCKET
        for bucket in quantiles(histogram, levels)
    ]


def _ms(value: float | None) -> str:
    return "nothing" if value is None else milliseconds(value)


def _exits(policy: Policy, state: State) -> Line:
    counter = state.counters["exits"]
    text = (
        f"exits {counter.k:,.0f} in {counter.n:,.0f} s against"
        f" {counter.k_control:,.0f} in {counter.n_control:,.0f} s"
    )
    value, control = _hourly(counter.k, counter.n), _hourly(counter.k_control, counter.n_control)
    return _line(policy, "exits", counter, text, False, (value, control, None))


def _hourly(k: float, n: float) -> float | None:
    return k / n * 3600 if n > 0 else None


def _times(policy: Policy, state: State, name: str) -> Line:
    counter = state.counters[name]
    value, control = _share(counter.k, counter.n), _share(counter.k_control, counter.n_control)
    text = f"{TIMES[name]} {percent(value or 0)} of the time against {percent(control or 0)}"
    return _line(policy, name, counter, text, False, (value, control, None))


def _share(k: float, n: float) -> float | None:
    return k / n if n > 0 else None


def promise_line(policy: Policy, state: State, name: str, promise: Promise) -> Line:
    """What the evidence says of one promise."""
    against, cold = against_promise(promise), coldness(policy, state.age)
    if promise.edge is None:
        counter = state.counters["errors"]
        value, control = _share(counter.k, counter.n), _share(counter.k_control, counter.n_control)
        limit = promise.limit + policy.cold_errors * cold
        shown = [percent(x or 0) for x in (value, control, promise.limit, limit)]
    else:
        wanted = [1 - promise.limit]
        value, control = (
            _quantiles_ms(arm, wanted)[0] for arm in (state.latency, state.latency_control)
        )
        limit = policy.latency_limits[name] * floor_ms(cold_shift(policy, cold))
        shown = [_ms(x) for x in (value, control, policy.latency_limits[name], limit)]
    n = state.counters["errors"].n
    limits = shown[2] + (f" ({shown[3]} while cold)" if cold else "")
    text = f"{name} {shown[0]} against {shown[1]}, promise {limits}, n = {n:,.0f}"
    return Line(
        f"{name} promise",
        _word(policy, against, None, n),
        text + (f", evidence {odds(against)} against" if against >= ANY else ""),
        value,
        control,
        limit,
        n=round(n),
        n_control=round(state.counters["errors"].n_control),
        evidence=against,
    )
