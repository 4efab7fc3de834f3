"""What every `Engine` promises, asked of real processes and of simulated ones alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from contract.engines import Bench, Kind, LocalBench, SimBench, seen

from volery.model.ports import Observation


@pytest.fixture(params=[SimBench, LocalBench], ids=["simulated", "local"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    made: Callable[[Path], Bench] = request.param
    return made(tmp_path)


async def reaches(bench: Bench, identity: str, state: str) -> None:
    await bench.until(lambda: seen(bench, identity).state == state)


async def ready(bench: Bench, identity: str = "web-1", kind: Kind = "good") -> None:
    bench.engine.start(bench.spec(identity, kind))
    await reaches(bench, identity, "ready")


def test_what_was_started_is_known_at_once_and_becomes_ready(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        assert dict(bench.engine.observe()) == {}
        bench.engine.start(bench.spec("web-1"))
        first = seen(bench, "web-1")
        assert (first.id, first.state, first.restarts, first.exit) == ("web-1", "starting", 0, None)
        await reaches(bench, "web-1", "ready")
        there = seen(bench, "web-1")
        host, _, port = (there.address or "").rpartition(":")
        assert host and port.isdigit()
        assert there.alive and there.restarts == 0 and there.exit is None and there.started_at > 0
        assert bench.wakes, "looking again was worthwhile"

    bench.play(scenario)


def lasting(bench: Bench, identity: str) -> Observation:
    """What is seen of it, but for what is measured all the time."""
    now = seen(bench, identity)
    return replace(now, cpu_seconds=None, memory=None, measured_at=None, suspect="")


def test_starting_a_known_one_changes_nothing(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench)
        before = lasting(bench, "web-1")
        bench.engine.start(bench.spec("web-1", "crash"))
        await bench.a_while()
        assert lasting(bench, "web-1") == before

    bench.play(scenario)


def test_each_instance_is_its_own(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench, "web-1")
        await ready(bench, "web-2")
        assert seen(bench, "web-1").address != seen(bench, "web-2").address
        other = lasting(bench, "web-2")
        bench.kill("web-1")
        await reaches(bench, "web-1", "exited")
        assert set(bench.engine.observe()) == {"web-1", "web-2"}
        assert lasting(bench, "web-2") == other

    bench.play(scenario)


def test_a_crash_while_starting_is_told_and_stays(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.start(bench.spec("web-1", "crash"))
        await reaches(bench, "web-1", "exited")
        await bench.a_while()
        ended = seen(bench, "web-1")
        assert ended.state == "exited" and ended.restarts == 0
        assert ended.exit is not None and (ended.exit.code, ended.exit.signal) == (1, None)
        assert 0 < len(bench.engine.tail("web-1")) <= 20
        assert len(bench.engine.tail("web-1", 1)) == 1

    bench.play(scenario)


def test_what_is_not_proven_is_not_started_again(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench)
        bench.kill("web-1")
        await reaches(bench, "web-1", "exited")
        await bench.a_while()
        assert seen(bench, "web-1").state == "exited"
        assert seen(bench, "web-1").restarts == 0 and seen(bench, "web-1").exit is not None

    bench.play(scenario)


def test_what_is_proven_comes_back_where_it_was(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench)
        await bench.settled("web-1")
        before = seen(bench, "web-1")
        bench.kill("web-1")
        await bench.until(lambda: seen(bench, "web-1").restarts == 1)
        assert seen(bench, "web-1").state in ("starting", "ready")
        await reaches(bench, "web-1", "ready")
        after = seen(bench, "web-1")
        assert after.address == before.address and after.exit is not None

    bench.play(scenario)


@pytest.mark.parametrize("kind", ["good", "never-ready"])
@pytest.mark.parametrize("settled", [False, True])
def test_stopping_ends_it_for_good(bench: Bench, kind: Kind, settled: bool) -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.start(bench.spec("web-1", kind))
        if kind == "good":
            await reaches(bench, "web-1", "ready")
        if settled:
            bench.engine.settle("web-1")
        bench.engine.stop("web-1")
        assert seen(bench, "web-1").state in ("stopping", "exited"), "it is said at once"
        bench.engine.stop("web-1")
        await reaches(bench, "web-1", "exited")
        bench.engine.stop("web-1")
        await bench.a_while()
        ended = seen(bench, "web-1")
        assert ended.state == "exited" and ended.restarts == 0

    bench.play(scenario)


def test_only_what_has_ended_is_forgotten(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench)
        bench.engine.forget("web-1")
        assert seen(bench, "web-1").state == "ready"
        bench.engine.start(bench.spec("web-2", "crash"))
        await reaches(bench, "web-2", "exited")
        words = list(bench.engine.tail("web-2", 3))
        bench.engine.forget("web-2")
        assert set(bench.engine.observe()) == {"web-1"}
        assert list(bench.engine.tail("web-2", 3)) == words, "its log is kept for a while"

    bench.play(scenario)


def test_a_forgotten_name_can_be_used_again(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        bench.engine.start(bench.spec("web-1", "crash"))
        await reaches(bench, "web-1", "exited")
        bench.engine.forget("web-1")
        await ready(bench, "web-1")
        there = seen(bench, "web-1")
        assert there.restarts == 0 and there.exit is None

    bench.play(scenario)


def test_wishes_about_nobody_are_harmless(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        for wish in (bench.engine.settle, bench.engine.stop, bench.engine.forget):
            wish("nobody")
        await bench.a_while()
        assert dict(bench.engine.observe()) == {}

    bench.play(scenario)


def test_what_hangs_is_told_and_left_to_others(bench: Bench) -> None:
    async def scenario(bench: Bench) -> None:
        await ready(bench)
        await bench.settled("web-1")
        bench.hang("web-1")
        await bench.until(lambda: not seen(bench, "web-1").alive)
        await bench.a_while()
        there = seen(bench, "web-1")
        assert there.state in ("ready", "unready") and there.restarts == 0 and there.detail

    bench.play(scenario)


def test_what_was_known_of_a_process_ends_with_it(bench: Bench) -> None:
    """A new one is not suspected for what the one before did."""

    async def scenario(bench: Bench) -> None:
        await ready(bench)
        await bench.settled("web-1")
        bench.hang("web-1")
        await bench.until(lambda: not seen(bench, "web-1").alive)
        told = seen(bench, "web-1").detail
        bench.kill("web-1")
        await bench.until(lambda: seen(bench, "web-1").restarts == 1)
        assert seen(bench, "web-1").detail != told
        await ready(bench)
        there = seen(bench, "web-1")
        assert there.alive and not there.suspect and not there.hung

    bench.play(scenario)
