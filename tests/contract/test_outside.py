"""What every `Outside` promises, asked of the simulated one and of the real one alike."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from simulation.adapters import Timeline
from simulation.outside import Reply, SimOutside

from volery.calls import Calls
from volery.model.deploy import CustomMetric, Gate, Synthetic
from volery.model.ports import (
    Answer,
    GateCall,
    MetricCall,
    OutsideCall,
    Subject,
    SyntheticCall,
)
from volery.outside import OutsideWorld

PATIENCE_SECONDS = 60.0
SUBJECT = Subject("web", "web@2", "canary", {"web-2-1": "127.0.0.1:1"})
ABOUT = {"app": "shop", "environment": "dev", "rollout": "r1", "step": "1"}
SAYS = {"yes": "echo 1", "no": "echo 9; exit 1", "broken": "kill -9 $$", "hang": "sleep 600"}
PRINTS = {"yes": "echo 1", "no": "echo 9", "broken": "echo a lot", "hang": "sleep 600"}


class Bench(Protocol):
    """An `Outside` whose environment answers as it is told, and its time."""

    wakes: int

    def wish(self, calls: Mapping[str, OutsideCall]) -> None: ...

    def observe(self) -> Mapping[str, Answer]: ...

    def until(self, good: Callable[[], object]) -> None: ...

    def pass_by(self, seconds: float) -> None: ...

    def now(self) -> float: ...

    def asked(self, key: str) -> int: ...

    def gate(self, key: str, reply: Reply, timeout: float = 30.0) -> GateCall: ...

    def metric(self, key: str, reply: Reply, timeout: float = 30.0) -> MetricCall: ...

    def synthetic(self) -> SyntheticCall: ...


class SimBench:
    """Virtual time."""

    def __init__(self) -> None:
        self.line = Timeline(7)
        self.replies: dict[str, Reply] = {}
        self.outside = SimOutside(self.line, lambda key, _: self.replies[key])
        self.outside.wake = self._woken
        self.wakes = 0

    def _woken(self) -> None:
        self.wakes += 1

    def wish(self, calls: Mapping[str, OutsideCall]) -> None:
        self.outside.wish(calls)

    def observe(self) -> Mapping[str, Answer]:
        return self.outside.observe()

    def until(self, good: Callable[[], object]) -> None:
        deadline = self.line.time + PATIENCE_SECONDS
        self._tick()
        while not good():
            assert self.line.time < deadline, "it never happens"
            self.line.run_next()

    def _tick(self) -> None:
        """Time goes on even if nothing happens."""
        self.line.after(0.1, self._tick)

    def pass_by(self, seconds: float) -> None:
        end = self.line.time + seconds
        self.until(lambda: self.line.time >= end)

    def now(self) -> float:
        return self.line.monotonic()

    def asked(self, key: str) -> int:
        return self.outside.asked[key]

    def gate(self, key: str, reply: Reply, timeout: float = 30.0) -> GateCall:
        self.replies[key] = reply
        return gate_call("true", timeout, Path())

    def metric(self, key: str, reply: Reply, timeout: float = 30.0) -> MetricCall:
        self.replies[key] = reply
        return metric_call("true", timeout, Path())

    def synthetic(self) -> SyntheticCall:
        return SyntheticCall(Synthetic(path="/", rate=50.0), "http://127.0.0.1:1", {})


class RealBench:
    """Real commands, a real server, the loop's time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.outside = OutsideWorld(self._woken, Calls())
        self.wakes = 0
        self._run(self.outside.open())
        self.server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))

    def _woken(self) -> None:
        self.wakes += 1

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def close(self) -> None:
        self._run(self.outside.close())
        self.server.close()
        self._run(self.server.wait_closed())
        self._run(asyncio.sleep(0.05))  # connections that the server closes are let go of
        self.loop.close()

    def wish(self, calls: Mapping[str, OutsideCall]) -> None:
        async def wish() -> None:
            self.outside.wish(calls)

        self._run(wish())

    def observe(self) -> Mapping[str, Answer]:
        return self.outside.observe()

    def until(self, good: Callable[[], object]) -> None:
        async def until() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not good():
                    await asyncio.sleep(0.01)

        self._run(until())

    def pass_by(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def now(self) -> float:
        return self.loop.time()

    def asked(self, key: str) -> int:
        asked = self.folder / f"{key}.asked"
        return len(asked.read_text()) if asked.exists() else 0

    def gate(self, key: str, reply: Reply, timeout: float = 30.0) -> GateCall:
        return gate_call(self._counting(key, SAYS[reply]), timeout, self.folder)

    def metric(self, key: str, reply: Reply, timeout: float = 30.0) -> MetricCall:
        return metric_call(self._counting(key, PRINTS[reply]), timeout, self.folder)

    def _counting(self, key: str, script: str) -> str:
        return f"printf x >> {key}.asked; {script}"

    def synthetic(self) -> SyntheticCall:
        port = self.server.sockets[0].getsockname()[1]
        return SyntheticCall(Synthetic(path="/", rate=50.0), f"http://127.0.0.1:{port}", {})


def gate_call(script: str, timeout: float, folder: Path) -> GateCall:
    gate = Gate(command=("sh", "-c", script), timeout=timeout)
    return GateCall(gate, SUBJECT, ABOUT, str(folder), {"PATH": os.environ["PATH"]})


def metric_call(script: str, timeout: float, folder: Path) -> MetricCall:
    metric = CustomMetric.model_validate(
        {"command": ["sh", "-c", script], "limit": "< 5", "every": "200ms", "timeout": timeout}
    )
    return MetricCall(metric, SUBJECT, ABOUT, str(folder), {"PATH": os.environ["PATH"]})


@contextmanager
def real(folder: Path) -> Iterator[RealBench]:
    made = RealBench(folder)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["simulated", "real"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "simulated":
        yield SimBench()
    else:
        with real(tmp_path) as made:
            yield made


def state(bench: Bench, key: str) -> str:
    return bench.observe()[key].state


def answered(bench: Bench, key: str) -> Answer:
    bench.until(lambda: state(bench, key) != "waiting")
    return bench.observe()[key]


def test_knows_nothing_at_first(bench: Bench) -> None:
    assert bench.observe() == {}
    bench.wish({})
    assert bench.observe() == {}


@pytest.mark.parametrize("reply", ["yes", "no", "broken"])
def test_a_gate_answers_once_and_for_ever(bench: Bench, reply: Reply) -> None:
    calls = {"g": bench.gate("g", reply)}
    before = bench.now()
    bench.wish(calls)
    assert bench.observe() == {"g": Answer("waiting")}
    answer = answered(bench, "g")
    assert (answer.state, bool(answer.text), answer.value) == (reply, True, None)
    assert before <= answer.at <= bench.now()
    assert bench.wakes == 1
    bench.wish(dict(calls))
    bench.pass_by(0.5)
    assert bench.observe() == {"g": answer}
    assert bench.asked("g") == 1


def test_a_gate_that_hangs_is_broken_at_its_limit_and_can_be_asked_again(bench: Bench) -> None:
    bench.wish({"g": bench.gate("g", "hang", timeout=0.5)})
    assert answered(bench, "g").state == "broken"
    bench.wish({"g2": bench.gate("g2", "yes")})
    assert list(bench.observe()) == ["g2"]
    assert answered(bench, "g2").state == "yes"


def test_what_is_no_longer_wished_is_forgotten(bench: Bench) -> None:
    calls: dict[str, OutsideCall] = {
        "g": bench.gate("g", "hang", timeout=1.0),
        "m": bench.metric("m", "hang", timeout=1.0),
        "s": bench.synthetic(),
        "kept": bench.gate("kept", "yes"),
    }
    bench.wish(calls)
    bench.until(lambda: state(bench, "s") != "waiting" and state(bench, "kept") != "waiting")
    bench.wish({"kept": calls["kept"]})
    assert list(bench.observe()) == ["kept"]
    wakes = bench.wakes
    bench.pass_by(1.5)
    assert bench.wakes == wakes
    assert list(bench.observe()) == ["kept"]
    assert bench.asked("kept") == 1


def test_a_gate_wished_anew_is_asked_anew(bench: Bench) -> None:
    call = bench.gate("g", "yes")
    bench.wish({"g": call})
    assert answered(bench, "g").state == "yes"
    bench.wish({})
    bench.wish({"g": call})
    assert state(bench, "g") == "waiting"
    assert answered(bench, "g").state == "yes"
    assert bench.asked("g") == 2


@pytest.mark.parametrize("reply", ["yes", "no"])
def test_a_metric_is_measured_again_and_again(bench: Bench, reply: Reply) -> None:
    call = bench.metric("m", reply)
    bench.wish({"m": call})
    times: list[float] = []
    for _ in range(3):
        bench.until(lambda: bench.observe()["m"].at > (times[-1] if times else 0.0))
        answer = bench.observe()["m"]
        assert answer.state == "yes"
        assert answer.value is not None
        assert call.metric.limit.holds(answer.value) is (reply == "yes")
        times.append(answer.at)
        bench.wish({"m": call})
    assert bench.asked("m") >= 3


@pytest.mark.parametrize("reply", ["broken", "hang"])
def test_a_metric_without_an_answer_has_no_value_and_goes_on(bench: Bench, reply: Reply) -> None:
    bench.wish({"m": bench.metric("m", reply, timeout=0.5)})
    answer = answered(bench, "m")
    assert (answer.state, answer.value) == ("broken", None)
    assert answer.text
    bench.until(lambda: bench.observe()["m"].at > answer.at)
    assert state(bench, "m") == "broken"


def test_a_metric_of_another_release_has_no_answer_yet(bench: Bench) -> None:
    call = bench.metric("m", "yes")
    bench.wish({"m": call})
    assert answered(bench, "m").state == "yes"
    moved = replace(call, subject=replace(SUBJECT, instances={"web-2-9": "127.0.0.1:2"}))
    bench.wish({"m": moved})
    assert state(bench, "m") == "yes"
    bench.wish({"m": replace(call, subject=replace(SUBJECT, release="web@3"))})
    assert state(bench, "m") == "waiting"
    assert answered(bench, "m").state == "yes"


def test_synthetic_requests_are_counted_while_they_are_wished(bench: Bench) -> None:
    call = bench.synthetic()
    bench.wish({"s": call})
    assert state(bench, "s") == "waiting"
    first = answered(bench, "s")
    assert first.state == "yes"
    assert first.value is not None and first.value >= 1
    bench.until(lambda: (bench.observe()["s"].value or 0.0) >= first.value + 10)  # type: ignore[operator]
    bench.wish({"s": call})
    assert (bench.observe()["s"].value or 0.0) >= first.value + 10
    assert "0 failed" in bench.observe()["s"].text


def test_the_simulated_one_replays() -> None:
    """By its seed, with every kind of answer."""

    def history() -> list[Answer]:
        line = Timeline(3)
        outside = SimOutside(line)
        call = gate_call("true", 5.0, Path())
        outside.wish({f"g{number}": call for number in range(200)})
        while line.time < 10:
            line.after(1, lambda: None)
            line.run_next()
        return list(outside.observe().values())

    assert history() == history()
    assert {answer.state for answer in history()} == {"yes", "no", "broken"}
    assert {answer.text for answer in history()} >= {"no answer in time"}


def test_a_key_may_come_to_mean_something_else(bench: Bench) -> None:
    bench.wish({"k": bench.gate("k", "no")})
    assert answered(bench, "k").state == "no"
    bench.wish({"k": bench.metric("k", "yes")})
    assert state(bench, "k") == "waiting"
    assert answered(bench, "k").value is not None
