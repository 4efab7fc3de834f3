"""Which proxy is read when, and what is left of one that says nothing."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any, cast

import pytest

from volery.decide.evidence import delta
from volery.model.evidence import Counters, ProxySample, Sample
from volery.supervise.identity import Identity
from volery.traffic import meter
from volery.traffic.admin import Admin, AdminError, HostCount
from volery.traffic.meter import Meter, merged

WEB, API = {"web~a": Counters(5, 2)}, {"api~a": Counters(9, 1)}


def test_what_was_read_later_of_some_services_replaces_only_them() -> None:
    before = ProxySample(WEB | API, {"web-1": Counters(5)}, {"gateway~web": Counters(5)})
    after = ProxySample({"web~a": Counters(7, 2), "web~b": Counters(1)}, {"web-2": Counters(1)})
    found = merged(before, after, frozenset({"web"}))
    assert found.groups == {**API, "web~a": Counters(7, 2), "web~b": Counters(1)}
    assert found.instances == {"web-2": Counters(1)}
    assert found.edges == {}
    assert merged(before, after, None).groups == after.groups


def test_a_failure_once_seen_stays_seen() -> None:
    before = ProxySample(WEB)
    assert merged(before, ProxySample({"web~a": Counters(6, 1)}), None).groups == {
        "web~a": Counters(6, 2)
    }
    began_anew = ProxySample({"web~a": Counters(3, 1)})
    assert merged(before, began_anew, None).groups == began_anew.groups


@pytest.mark.parametrize(
    "left",
    [
        {"gateway~web": Counters(30, 0)},
        {"gateway~web": Counters(30, 0), "front~a~web": Counters(5, 0)},
        {"gateway~web": Counters(30, 0), "front~b~web": Counters(5, 0)},
    ],
    ids=["gone", "began anew", "another group"],
)
@pytest.mark.parametrize("services", [None, frozenset({"web"})])
def test_failures_that_go_with_their_caller_hide_none_that_come_later(
    left: dict[str, Counters], services: frozenset[str] | None
) -> None:
    """What a caller saw broken is counted at its edge, and its edge ends with it; what the need was
    asked is counted for as long as the proxy runs."""
    first = ProxySample(
        {"web~a": Counters(50, 20)},
        edges={"gateway~web": Counters(30, 0), "front~a~web": Counters(20, 20)},
    )
    second = merged(first, ProxySample({"web~a": Counters(50, 0)}, edges=left), services)
    third = merged(second, ProxySample({"web~a": Counters(65, 15)}, edges=left), services)
    looks = [Sample(number, number, {"7@0.00": it}) for number, it in ((1, first), (2, second))]
    assert not delta(*looks).groups
    assert delta(looks[1], Sample(3, 3, {"7@0.00": third})).groups == {"web~a": Counters(15, 15)}


class Paper:
    """An admin interface of paper: `count` requests, or nothing at all; remembers its questions."""

    def __init__(self, count: int | None) -> None:
        self.count = count
        self.asked: list[str] = []

    async def ask(self, path: str) -> str:
        self.asked.append(path)
        if self.count is None:
            raise AdminError("silent")
        name = "cluster.web~a.upstream_rq_completed"
        return json.dumps({"stats": [{"name": name, "value": self.count}]})

    async def hosts(self) -> dict[tuple[str, str], HostCount]:
        return {}


def proxy(paper: Paper, pid: int, age: float = 1000.0) -> dict[Identity, Admin]:
    ticks = round((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * os.sysconf("SC_CLK_TCK"))
    return {Identity("boot", pid, ticks): cast(Admin, paper)}


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """A meter for which everything is always due."""
    monkeypatch.setattr(meter, "OTHERS_SECONDS", -1.0)
    return Meter()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def requests(found: ProxySample) -> int:
    return found.groups.get("web~a", Counters()).requests


def test_a_silent_proxy_keeps_what_it_said_and_catches_up(reading: Meter) -> None:
    async def test() -> None:
        paper = Paper(5)
        known, other = proxy(paper, 7), proxy(Paper(1), 8)
        await reading.read(known | other)
        first = reading.sample
        paper.count = None
        await reading.read(known | other)
        assert reading.sample.number == 2
        assert requests(delta(first, reading.sample)) == 0
        paper.count = 9
        await reading.read(known | other)
        assert requests(delta(first, reading.sample)) == 4
        await reading.read({})
        assert not reading.sample.proxies

    run(test())


def test_where_no_proxy_answers_nothing_was_seen(reading: Meter) -> None:
    """A sample that is as new as its number must not pass for a look at which nothing happened."""

    async def test() -> None:
        paper = Paper(5)
        known = proxy(paper, 7)
        assert await reading.read(known)
        first = reading.sample
        paper.count = None
        assert not await reading.read(known)
        assert reading.sample is first
        paper.count = 9
        assert await reading.read(known)
        assert requests(delta(first, reading.sample)) == 4

    run(test())


def test_one_that_began_is_counted_from_the_beginning_whenever_it_first_answers(
    reading: Meter,
) -> None:
    async def test() -> None:
        await reading.read({})
        time.sleep(0.05)  # of the clock that the kernel counts in
        paper = Paper(None)
        new = proxy(paper, 8, age=0.02)
        samples = [reading.sample]
        for count in (None, None, 3, 5):
            paper.count = count
            await reading.read(new)
            samples.append(reading.sample)
        found = [requests(delta(*pair)) for pair in pairwise(samples)]
        assert found == [0, 0, 3, 2]

    run(test())


def test_one_that_was_there_before_us_is_counted_from_now(reading: Meter) -> None:
    async def test() -> None:
        paper = Paper(None)
        old = proxy(paper, 9)
        samples = []
        for count in (None, 100, 103):
            paper.count = count
            await reading.read(old)
            samples.append(reading.sample)
        found = [requests(delta(*pair)) for pair in pairwise(samples)]
        assert found == [0, 3]

    run(test())


def test_attended_services_are_read_at_once_and_others_seldom() -> None:
    async def test() -> None:
        paper = Paper(1)
        known = proxy(paper, 7)
        meter = Meter()
        news = []
        for attended in ((), (), ("web",), ("web",), ("web", "api")):
            meter.attend(frozenset(attended))
            news.append(await meter.read(known))
        assert news == [True, False, True, False, True]
        everything, *some = paper.asked
        assert "%5B%5E.%5D%2B" in everything
        assert len(some) == 2
        assert "web" in some[0] and "api%7Cweb" in some[1]
        assert meter.sample.number == 3

    run(test())
