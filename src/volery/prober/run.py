"""Runs a plan: starts every request when it is due, counts how each one ended.

The load is open-loop: nothing an answer does delays the next request. `max_in_flight` is only a
safety stop, and a request that it holds back is a failure (`client_saturated`), never a silence.
A probe ends by itself, or when `stop` is set; requests in flight are then waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from volery.prober.grpc_calls import Grpc
from volery.prober.http1 import Http1
from volery.prober.http2 import Http2
from volery.prober.latency import Histogram
from volery.prober.line import Lines
from volery.prober.outcome import Answer, Failure, NotProcessed, marker
from volery.prober.plan import Kind, ProbePlan
from volery.prober.report import ProbeReport
from volery.prober.schedule import due_times
from volery.prober.tally import Tally
from volery.prober.websocket import WebSocket

MAX_RETRIES = 3


class Client(Protocol):
    """Sends the requests of one stream."""

    async def call(self, number: int) -> Answer:
        """One request and its complete, right answer. Raises Failure, NotProcessed."""

    async def close(self) -> None:
        """End all connections."""


CLIENTS: Mapping[Kind, Callable[[Tally], Client]] = {
    Kind.HTTP1: Http1,
    Kind.HTTP1_FRESH: Http1,
    Kind.UPLOAD: Http1,
    Kind.DOWNLOAD: Http1,
    Kind.HTTP2: Http2,
    Kind.GRPC: Grpc,
    Kind.GRPC_STREAM: Grpc,
    Kind.GRPC_BIDI: Grpc,
    Kind.WEBSOCKET: WebSocket,
    Kind.LINE: Lines,
}


async def probe(plan: ProbePlan, stop: asyncio.Event | None = None) -> ProbeReport:
    """Send what the plan says, for as long as it says or until `stop` is set.

    Raises:
        VoleryError: the plan is out of bounds, or would leave this machine.
    """
    plan = plan.checked()
    return await run(plan, tuple(Tally(stream) for stream in plan.streams), stop)


async def run(
    plan: ProbePlan, tallies: Sequence[Tally], stop: asyncio.Event | None = None
) -> ProbeReport:
    """Run a checked plan, counting into tallies that others may look at meanwhile."""
    started_at, begin = time.time(), time.monotonic()
    streams = [_Stream(plan, tally, begin) for tally in tallies]
    try:
        async with asyncio.TaskGroup() as flying:
            launches = [flying.create_task(stream.launch(flying)) for stream in streams]
            halt = flying.create_task(_halt(stop, launches)) if stop else None
            await asyncio.wait(launches)
            if halt:
                halt.cancel()
    finally:
        for stream in streams:
            await stream.client.close()
        await asyncio.sleep(0)  # one turn of the loop, in which closed transports are let go
    return _report(started_at, time.monotonic() - begin, tallies)


def _report(started_at: float, seconds: float, tallies: Sequence[Tally]) -> ProbeReport:
    total = Histogram()
    for tally in tallies:
        total.merge(tally.latencies)
    reports = tuple(tally.report() for tally in tallies)
    return ProbeReport(started_at, seconds, reports, total.summary())


async def _halt(stop: asyncio.Event, launches: Sequence[asyncio.Task[None]]) -> None:
    await stop.wait()
    for launch in launches:
        launch.cancel()


@dataclass
class _Stream:
    """One stream under way; `begin` is the monotonic second everything is measured from."""

    plan: ProbePlan
    tally: Tally
    begin: float

    def __post_init__(self) -> None:
        self.client = CLIENTS[self.tally.stream.kind](self.tally)

    async def launch(self, flying: asyncio.TaskGroup) -> None:
        """Start each request when it is due."""
        stream = self.tally.stream
        for number, due in enumerate(due_times(self.plan, stream)):
            delay = self.begin + due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if self.tally.in_flight >= stream.max_in_flight:
                limit = f"{stream.max_in_flight} requests are in flight already"
                self.tally.failed(due, Failure("client_saturated", limit))
            else:
                self.tally.in_flight += 1
                flying.create_task(self._one(number, due))
            if number % 50 == 49:
                await asyncio.sleep(0)  # a backlog of due requests must not starve the answers

    async def _one(self, number: int, due: float) -> None:
        self.tally.late = max(self.tally.late, time.monotonic() - self.begin - due)
        try:
            answer = await self._in_time(number)
            self.tally.ok(time.monotonic() - self.begin - due, marker(self.plan, answer))
        except Failure as failure:
            self.tally.failed(due, failure)
        finally:
            self.tally.in_flight -= 1

    async def _in_time(self, number: int) -> Answer:
        stream = self.tally.stream
        limit = stream.timeout + stream.spans
        try:
            async with asyncio.timeout(limit):
                return await self._until_processed(number)
        except TimeoutError:
            raise Failure("timeout", f"no complete answer within {limit:g} s") from None

    async def _until_processed(self, number: int) -> Answer:
        for _ in range(1 + MAX_RETRIES):
            try:
                return await self.client.call(number)
            except NotProcessed as why:
                self.tally.retried += 1
                reason = str(why)
        raise Failure("goaway", f"not processed {1 + MAX_RETRIES} times in a row: {reason}")
