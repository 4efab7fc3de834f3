"""What a control plane allows itself, and what it tells its engine."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.api.daemon import DESCRIPTORS, ControlPlane, allow_descriptors
from volery.api.home import Home
from volery.model.errors import VoleryError
from volery.store.secrets import Secrets
from volery.store.volumes import Volumes


@pytest.fixture
def hard() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_has_descriptors_for_many_instances(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    allow_descriptors()
    soft, unchanged = resource.getrlimit(resource.RLIMIT_NOFILE)
    whole = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    assert (soft, unchanged) == (whole, hard)


def test_a_mistake_of_its_own_that_stops_everything_is_told_once_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = ControlPlane(Home(tmp_path))
    happens: list[Exception | None] = [IndexError("x"), IndexError("x"), VoleryError("full"), None]
    happens.append(IndexError("x"))

    def tick() -> bool:
        error = happens.pop(0)
        if error is not None:
            raise error
        return False

    monkeypatch.setattr(plane.controller, "tick", tick)
    while happens:
        plane.look()
    told = [(event.kind, event.text) for event in plane.store.events(0, 10)]
    assert told == [("control_plane.stuck", "nothing can be decided: IndexError: x")] * 2


def test_every_secret_that_is_or_was_is_masked_as_soon_as_it_is_set(tmp_path: Path) -> None:
    """Also those of other services, and whenever: `secret set` asks no control plane."""
    plane, command = ControlPlane(Home(tmp_path)), Secrets(tmp_path / "secrets")
    assert plane._hidden() == frozenset()
    command.set("KNOWN", "the first")
    assert plane._hidden() == frozenset({"the first"})
    command.set("KNOWN", "the second")
    assert plane._hidden() == frozenset({"the first", "the second"})
    (tmp_path / "secrets" / "secrets").rename(tmp_path / "away")
    assert plane._hidden() == frozenset({"the first", "the second"}), "instances still have them"


def test_secrets_are_read_only_where_they_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, key = ControlPlane(Home(tmp_path)), tmp_path / "secrets" / "key"
    plane.secrets.set("KNOWN", "a value")
    key.chmod(0o644)
    assert plane._hidden() is None, "nothing is shown"
    key.chmod(0o600)
    assert plane._hidden() == frozenset({"a value"})
    monkeypatch.setattr(plane.secrets, "ever", lambda: pytest.fail("read again"))
    assert plane._hidden() == frozenset({"a value"})


def test_it_ends_rather_than_go_on_half_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shim starts another one, which adopts everything."""
    home = Home(tmp_path / "birds" / "dev")
    home.create()
    plane = ControlPlane(home)

    async def broken(_: object) -> bool:
        raise RuntimeError("a defect")

    async def run() -> None:
        async with asyncio.timeout(60):
            await plane.run()

    monkeypatch.setattr(plane.traffic._meter, "read", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        asyncio.run(run())
    gc.collect()


def test_its_end_waits_for_no_volume_that_is_being_destroyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one takes minutes, and Envoy would be left over."""
    home = Home(tmp_path / "birds" / "dev")
    home.create()
    plane, begun, done = ControlPlane(home), threading.Event(), threading.Event()
    stopped: list[bool] = []

    def destroy(_: Volumes) -> None:
        begun.set()
        done.wait()

    async def stop() -> None:
        stopped.append(done.is_set())

    async def run() -> None:
        try:
            async with asyncio.timeout(30):
                running = asyncio.create_task(plane.run())
                await asyncio.to_thread(begun.wait, 30)
                plane.stopping.set()
                await running
        finally:
            done.set()

    monkeypatch.setattr(Volumes, "finish", destroy)
    monkeypatch.setattr(plane.traffic, "stop", stop)
    asyncio.run(run())
    assert stopped == [False]


def test_nobody_is_heard_any_more_once_nobody_will_be_answered(tmp_path: Path) -> None:
    """The control plane itself may take a while longer, as Envoy drains."""
    home = Home(tmp_path)
    plane = ControlPlane(home)

    async def run() -> None:
        serving = asyncio.create_task(plane._serve())
        async with asyncio.timeout(30):
            while not _connects(home):
                await asyncio.sleep(0.01)
            plane.stopping.set()
            await serving

    asyncio.run(run())
    assert home.socket.exists() and not _connects(home)


def _connects(home: Home) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(home.socket))
        except OSError:
            return False
    return True
