"""Measures one custom metric once: a Prometheus query, or a command that prints one number.

A number is *yes*, whatever the limit: what it means for a rollout is decided elsewhere. Everything
else is *broken*: missing data says nothing about a release.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from volery.model.application import CustomMetric
from volery.model.placeholders import fill
from volery.model.ports import Answer, MetricCall
from volery.outside.commands import run
from volery.outside.exchange import NoReply, Request, exchange
from volery.outside.prometheus import BODY_BYTES, NoValue, number, reading
from volery.outside.wording import Tail, address_of

BACK_OFF_SECONDS = 60.0
STAY_AWAY_SECONDS = 300.0
"""Longer than that no answer keeps us away."""
EVERY_SECONDS = 0.1
"""More often nothing is measured, whatever the manifest says."""


@dataclass(frozen=True)
class Measured:
    """One measurement; `wait`: how many seconds the source asked not to be asked again."""

    answer: Answer
    wait: float = 0.0


async def measure(call: MetricCall) -> Measured:
    """Measure it once, within its time limit."""
    subject, metric = call.subject, call.metric
    words = {"service": subject.service, "release": subject.release, "track": subject.track}
    try:
        if metric.command is not None:
            argv = [fill(word, words) for word in metric.command]
            value = await _printed(argv, call)
        else:
            value = await _queried(metric, fill(metric.query or "", words))
    except NoReply as why:
        return Measured(Answer("broken", str(why)))
    except NoValue as why:
        return Measured(Answer("broken", str(why)), min(why.wait, STAY_AWAY_SECONDS))
    return Measured(Answer("yes", f"{value:g}", value))


def pause(every: float, broken: int, source: random.Random) -> float:
    """Seconds from one measurement to the next, after so many broken ones in a row.

    Capped exponential with jitter: a source in trouble is asked less often, and not by all at once.
    """
    every = max(every, EVERY_SECONDS)
    ceiling = min(max(every, BACK_OFF_SECONDS), every * 2.0 ** min(broken, 20))
    return source.uniform(every, ceiling) if broken else every


async def _queried(metric: CustomMetric, query: str) -> float:
    base = metric.prometheus or ""
    url = base.rstrip("/") + "/api/v1/query"
    reply = await exchange(Request("GET", url, BODY_BYTES, query={"query": query}), metric.timeout)
    try:
        return reading(reply.status, reply.headers, reply.body, reply.whole, time.time())
    except NoValue as why:
        raise NoValue(f"{address_of(base)}: {why}", why.wait) from None


async def _printed(argv: Sequence[str], call: MetricCall) -> float:
    output, errors = Tail(), Tail()
    ended = await run(argv, call, call.metric.timeout, output, errors)
    if not ended.well:
        said = errors.last_line or output.last_line
        raise NoValue(f"{ended.text}: {said}" if said else ended.text)
    return number(bytes(output.content).decode(errors="replace").strip())
