"""Measures one custom metric once: a Prometheus query, or a command that prints one number.

A number is *yes*, whatever the limit: what it means for a rollout is decided elsewhere. Everything
else is *broken*: missing data says nothing about a release.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from volery.calls import Calls, NoReply, Request
from volery.calls.exchange import address_of
from volery.model.deploy import CustomMetric
from volery.model.placeholders import fill
from volery.model.ports import Answer, MetricCall
from volery.outside.commands import run
from volery.outside.prometheus import BODY_BYTES, NoValue, number, reading
from volery.outside.wording import Tail

BACK_OFF_SECONDS = 60.0
EVERY_SECONDS = 0.1
"""More often nothing is measured, whatever the manifest says."""


async def measure(call: MetricCall, calls: Calls) -> Answer:
    """Measure it once, within its time limit."""
    subject, metric = call.subject, call.metric
    words = {"service": subject.service, "release": subject.release, "track": subject.track}
    try:
        if metric.command is not None:
            argv = [fill(word, words) for word in metric.command]
            value = await _printed(argv, call)
        else:
            value = await _queried(metric, fill(metric.query or "", words), calls)
    except (NoReply, NoValue) as why:
        return Answer("broken", str(why))
    return Answer("yes", f"{value:g}", value)


def pause(every: float, broken: int, source: random.Random) -> float:
    """Seconds from one measurement to the next, after so many broken ones in a row.

    Capped exponential with jitter: a source in trouble is asked less often, and not by all at once.
    """
    every = max(every, EVERY_SECONDS)
    ceiling = min(max(every, BACK_OFF_SECONDS), every * 2.0 ** min(broken, 20))
    return source.uniform(every, ceiling) if broken else every


async def _queried(metric: CustomMetric, query: str, calls: Calls) -> float:
    """Once: the next measurement is the next try."""
    base = metric.prometheus or ""
    url = base.rstrip("/") + "/api/v1/query"
    request = Request("GET", url, BODY_BYTES, query={"query": query})
    reply = await calls.send(request, metric.timeout)
    try:
        return reading(reply.status, reply.headers, reply.body, reply.whole, time.time())
    except NoValue as why:
        raise NoValue(f"{address_of(base)}: {why}") from None


async def _printed(argv: Sequence[str], call: MetricCall) -> float:
    output, errors = Tail(), Tail()
    ended = await run(argv, call, call.metric.timeout, output, errors)
    if not ended.well:
        said = errors.last_line or output.last_line
        raise NoValue(f"{ended.text}: {said}" if said else ended.text)
    return number(bytes(output.content).decode(errors="replace").strip())
