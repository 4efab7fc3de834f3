"""Readiness and liveness as real services give them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import h2.connection
import h2.events
import pytest
from integration.engine.lab import Lab, fetch, reaches, running, until

from volery.engines.health import HealthWatch
from volery.engines.local import LocalEngine
from volery.engines.probes import Answer, Target, ask
from volery.model.application import Health, Probe


def test_a_sick_service_becomes_unready_and_ready_again(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        (lab.work / "sick").touch()
        engine.start(lab.spec("web-1", health=lab.http()))
        await until(lambda: engine.observe()["web-1"].detail == "GET /healthz answered 503")
        assert engine.observe()["web-1"].state == "starting"
        (lab.work / "sick").unlink()
        await reaches(engine, "web-1", "ready")
        (lab.work / "sick").touch()
        seen = await reaches(engine, "web-1", "unready")
        assert seen.alive and seen.detail == "GET /healthz answered 503"
        (lab.work / "sick").unlink()
        assert (await reaches(engine, "web-1", "ready")).detail == ""

    lab.run(scenario)


def test_a_closed_port_makes_it_unready(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1"))
        seen = await reaches(engine, "web-1", "ready")
        assert await fetch(seen.address or "", "/close") == ""
        unready = await reaches(engine, "web-1", "unready")
        assert unready.detail == "connection refused" and unready.pid == seen.pid

    lab.run(scenario)


def test_a_failed_liveness_probe_condemns_without_a_restart(lab: Lab) -> None:
    live = Health(
        ready=Probe(tcp=True), live=Probe(path="/live"), every=0.05, timeout=2.0, failures=2
    )

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", health=live))
        seen = await reaches(engine, "web-1", "ready")
        (lab.work / "sick").touch()
        await until(lambda: not engine.observe()["web-1"].alive)
        dead = engine.observe()["web-1"]
        assert dead.detail == "liveness: GET /live answered 503"
        assert dead.pid == seen.pid and dead.state == "ready"
        (lab.work / "sick").unlink()
        await until(lambda: engine.observe()["web-1"].alive)

    lab.run(scenario)


def test_one_question_at_a_time_to_a_service_that_never_answers(lab: Lab) -> None:
    code = """
import os, socket
server = socket.socket()
server.bind(("127.0.0.1", int(os.environ["PORT"])))
server.listen(100)
connections = []
while True:
    connections.append(server.accept()[0])
    print("asked", flush=True)
    connections[-1].recv(1000)
    if connections[-1].recv(1000) == b"":
        print("hung up", flush=True)
"""
    health = Health(ready=Probe(path="/slow"), every=0.05, timeout=0.2, failures=2)

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code, health=health))
        await until(lambda: len(engine.tail("web-1")) >= 6)
        lines = engine.tail("web-1", 100)
        assert lines[:6] == ["asked", "hung up"] * 3
        seen = engine.observe()["web-1"]
        assert seen.state == "starting"
        assert seen.detail == "GET /slow was not answered within 200ms"

    lab.run(scenario)


def test_a_command_decides(lab: Lab) -> None:
    check = 'import os, sys; sys.exit(f\'waiting for {os.environ["WHOM"]}:{os.environ["PORT"]}\' '
    check += "if not os.path.exists('go') else 0)"
    health = Health(
        ready=Probe(command=(sys.executable, "-S", "-c", check)), every=0.05, timeout=20.0
    )
    environment = {"PATH": os.environ["PATH"], "WHOM": "godot"}

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", health=health, environment=environment))
        await until(lambda: "godot" in engine.observe()["web-1"].detail)
        seen = engine.observe()["web-1"]
        port = (seen.address or "").rpartition(":")[2]
        assert seen.detail == f"{sys.executable} exited 1: waiting for godot:{port}"
        (lab.work / "go").touch()
        await reaches(engine, "web-1", "ready")

    lab.run(scenario)


def test_a_command_that_hangs_ends_with_all_it_started(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! > child; setsid sleep 1000 & echo $! >> child; wait"

    async def scenario() -> None:
        answer = await asked(Probe(command=("sh", "-c", script)), tmp_path, seconds=5.0)
        assert answer == Answer(False, "sh did not end within 5s", late=True)
        started = [int(line) for line in (tmp_path / "child").read_text().split()]
        assert len(started) == 2
        await until(lambda: not any(running(pid) for pid in started))

    asyncio.run(scenario())


def test_a_command_leaves_nothing_behind_when_it_ends_in_time(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! > child"

    async def scenario() -> None:
        assert (await asked(Probe(command=("sh", "-c", script)), tmp_path)).ok
        left = int((tmp_path / "child").read_text())
        await until(lambda: not running(left))

    asyncio.run(scenario())


def test_a_command_that_cannot_be_killed_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a disk that does not answer."""
    probe = Probe(command=("sh", "-c", "echo $$ >> asked; sleep 1000"))
    beats = [0]

    def who() -> list[int]:
        file = tmp_path / "asked"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.01)
            beats[0] += 1

    async def scenario() -> None:
        beating = asyncio.create_task(beat())
        with monkeypatch.context() as patched:
            patched.setattr("volery.supervise.command.kill_session", lambda pid: False)
            late = Answer(False, "sh did not end within 1s", late=True)
            assert await asked(probe, tmp_path, seconds=1.0) == late
            before = beats[0]
            assert await asked(probe, tmp_path, seconds=1.0) == late
            assert beats[0] > before
            await until(who)
            (first,) = who()
            assert running(first), "the first still does, and so there is no second"
        await until(lambda: not running(first))
        again = asyncio.create_task(asked(probe, tmp_path))
        await until(lambda: len(who()) == 2)
        again.cancel()
        await until(lambda: not running(who()[1]))
        beating.cancel()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("true", "x"), Answer(True, "true exited 0")),
        (("sh", "-c", "echo no; exit 3"), Answer(False, "sh exited 3: no")),
        (("sh", "-c", "kill -9 $$"), Answer(False, "sh was killed by SIGKILL")),
        (("sh", "-c", "yes | head -c 9999999; echo; echo end"), Answer(True, "sh exited 0: end")),
        (("sh", "-c", "sleep 1000 & echo early"), Answer(True, "sh exited 0: early")),
        (("no-such", "x"), Answer(False, "no-such cannot be run: No such file or directory")),
    ],
)
def test_what_a_command_can_say(command: tuple[str, ...], answer: Answer, tmp_path: Path) -> None:
    assert asyncio.run(asked(Probe(command=command), tmp_path, seconds=60.0)) == answer


async def asked(
    probe: Probe | None, folder: Path, port: int = 1, protocol: str = "http", seconds: float = 20.0
) -> Answer:
    environment = {"PATH": os.environ["PATH"]}
    target = Target("127.0.0.1", port, protocol, str(folder), environment)  # type: ignore[arg-type]
    return await ask(probe, target, seconds)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[object, object, None]]


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[int]:
    """A server on the port given, until all it does has ended."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(True, "GET /x answered 204")),
        (b"HTTP/1.0 302 Found\r\n\r\n", Answer(True, "GET /x answered 302")),
        (b"HTTP/1.1 404\r\n\r\n", Answer(False, "GET /x answered 404")),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            Answer(True, "GET /x answered 200"),
        ),
        (b"SSH-2.0-OpenSSH\r\n", Answer(False, "GET /x got no HTTP answer")),
        (b"", Answer(False, "GET /x got no HTTP answer")),
        (b"H" * 100_000, Answer(False, "GET /x got no HTTP answer")),
    ],
)
def test_what_a_server_can_answer(reply: bytes, answer: Answer, tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            assert await asked(Probe(path="/x"), tmp_path, port) == answer

    asyncio.run(scenario())


def test_nobody_is_late_because_the_one_that_asks_stood_still(tmp_path: Path) -> None:
    """The answer and the end of the time are there at once, and the end comes first."""
    stands_still = [1.0]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if stands_still:
            time.sleep(stands_still.pop())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            found = await asked(Probe(path="/x"), tmp_path, port, seconds=0.3)
            assert found == Answer(True, "GET /x answered 204")

    asyncio.run(scenario())


def test_no_command_is_late_because_the_one_that_asks_stood_still(tmp_path: Path) -> None:
    probe = Probe(command=["sh", "-c", "mkdir asked && sleep 1000; exit 0"])

    async def scenario() -> None:
        asyncio.get_running_loop().call_later(0.1, time.sleep, 1.0)
        found = await asked(probe, tmp_path, 1, seconds=0.3)
        assert found.ok and (tmp_path / "asked").exists()

    asyncio.run(scenario())


def test_an_answer_that_comes_a_byte_at_a_time(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for byte in b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 No\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.read()  # until the one that asks has gone
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            found = await asked(Probe(path="/x"), tmp_path, port)
            assert found == Answer(False, "GET /x answered 503")

    asyncio.run(scenario())


@pytest.mark.parametrize(("status", "ok"), [("200", True), ("503", False)])
def test_a_path_is_asked_over_http2_where_that_is_spoken(
    status: str, ok: bool, tmp_path: Path
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from h2.config import H2Configuration

        connection = h2.connection.H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while content := await reader.read(65536):
            for event in connection.receive_data(content):
                if isinstance(event, h2.events.RequestReceived) and event.stream_id:
                    headers = [(":status", status)]
                    connection.send_headers(event.stream_id, headers, end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            answer = await asked(Probe(path="/x"), tmp_path, port, "http2")
            assert answer == Answer(ok, f"GET /x answered {status}")
            assert await asked(None, tmp_path, port, "grpc") == Answer(
                True, "a connection was greeted"
            )
            assert await asked(Probe(tcp=True), tmp_path, port, "grpc") == Answer(
                True, "a connection was accepted"
            )

    asyncio.run(scenario())


def test_one_that_hangs_greets_nobody_though_the_kernel_accepts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert asyncio.run(asked(Probe(tcp=True), tmp_path, port, "grpc")).ok
        answer = asyncio.run(asked(None, tmp_path, port, "grpc", seconds=0.3))
    assert answer == Answer(False, "a connection was not greeted within 300ms", late=True)


def test_a_server_that_speaks_no_http2_is_not_ready(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            answer = await asked(Probe(path="/x"), tmp_path, port, "http2")
            assert answer == Answer(False, "GET /x got no HTTP/2 answer")
            answer = await asked(None, tmp_path, port, "grpc")
            assert answer == Answer(False, "a connection got no HTTP/2 greeting")

    asyncio.run(scenario())


@contextmanager
def full_queue() -> Iterator[int]:
    """A port whose server accepts nobody any more."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            waiting.append(client)
        yield port
        for client in waiting:
            client.close()


def test_a_connection_that_is_not_accepted_in_time(tmp_path: Path) -> None:
    with full_queue() as port:
        answer = asyncio.run(asked(None, tmp_path, port, seconds=0.3))
    assert answer == Answer(False, "a connection was not accepted within 300ms", late=True)


def test_a_suspicion_that_ends_with_the_same_question_is_taken_back(tmp_path: Path) -> None:
    slow = iter((0.0, 0.0, 0.45, 0.0, 0.0))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(next(slow, 0.0))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        async with serving(handle) as port:
            told: list[str] = []
            health = Health(ready=Probe(path="/"), every=0.05, timeout=0.6)
            target = Target("127.0.0.1", port, "http", str(tmp_path), {})
            watch = HealthWatch(health, target, lambda: told.append(watch.suspect))
            running = asyncio.create_task(watch.run())
            await until(lambda: any(told))
            await until(lambda: not told[-1])
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(scenario())


def test_a_command_that_ended_in_time_is_not_late_because_we_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        asking = asyncio.create_task(asked(Probe(command=("true",)), tmp_path, seconds=0.5))
        await asyncio.sleep(0)
        time.sleep(1.0)
        assert await asking == Answer(True, "true exited 0")

    asyncio.run(scenario())
