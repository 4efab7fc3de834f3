"""Whose lines `logs` shows: of instances that are there, and of those that are gone."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.api.daemon import ControlPlane
from volery.api.home import Home
from volery.api.logs import PIECE_LINES, Logs
from volery.api.offline import offline_logs
from volery.api.places import LogQuery, Place, there
from volery.model.errors import Code, VoleryError
from volery.supervise import logs as supervise

OLD, NEW = 1000.0, 2000.0


class Room:
    """The home of an environment in which instances have written one line each."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def wrote(self, folder: str, text: str, at: float) -> Path:
        place = self.home / folder
        place.mkdir(parents=True)
        (place / "log").write_text(f"{text}\n")
        (place / "log.index").write_text(f"0 0\n{at} {len(text) + 1}\n")
        os.utime(place / "log", (at, at))
        return place

    def texts(self, **query: object) -> list[str]:
        logs = Logs(self.home, "web", LogQuery(**query), lambda: ["swordfish"])  # type: ignore[arg-type]
        logs.check()
        return [line.text for line in logs.past()]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """web@bbbb serves; web@aaaa did before; web-api is somebody else."""
    room = Room(tmp_path)
    room.wrote("instances/web-bbbbbbbb-2", "b2 serves", NEW + 2)
    room.wrote("instances/web-api-cccccccc-1", "not ours", NEW)
    room.wrote("logs/web/web-aaaaaaaa-1-100", "a1 was there", OLD)
    room.wrote("logs/web/web-aaaaaaaa-2-200", "a2 was there", OLD + 1)
    room.wrote("logs/web/web-bbbbbbbb-1-300", "b1 crashed", NEW)
    room.wrote("logs/web/web-bbbbbbbb-1-400", "b1 crashed again: swordfish", NEW + 1)
    return room


B1, AGAIN = "b1 crashed", "b1 crashed again: ***"


def test_what_is_there(room: Room) -> None:
    assert room.texts() == ["b2 serves"]


def test_since_a_moment_also_what_is_gone(room: Room) -> None:
    assert room.texts(since=NEW) == [B1, AGAIN, "b2 serves"]


def test_only_what_is_gone(room: Room) -> None:
    assert room.texts(previous=True) == ["a1 was there", "a2 was there", B1, AGAIN]
    assert room.texts(previous=True, since=NEW) == [B1, AGAIN]


def test_where_none_is_there_the_last_release_is_shown(room: Room) -> None:
    shutil.rmtree(room.home / "instances" / "web-bbbbbbbb-2")
    assert room.texts() == [AGAIN]
    shutil.rmtree(room.home / "logs/web/web-bbbbbbbb-1-300")
    shutil.rmtree(room.home / "logs/web/web-bbbbbbbb-1-400")
    assert room.texts() == ["a1 was there", "a2 was there"]


def test_one_instance(room: Room) -> None:
    assert room.texts(instance="web-bbbbbbbb-2") == ["b2 serves"]
    assert room.texts(instance="web-bbbbbbbb-1") == [AGAIN], "the newest of that name"
    assert room.texts(instance="web-bbbbbbbb-1", previous=True) == [B1, AGAIN]
    room.wrote("instances/web-bbbbbbbb-1", "b1 is back", NEW + 3)
    assert room.texts(instance="web-bbbbbbbb-1") == ["b1 is back"]


@pytest.mark.parametrize("instance", ["web-ffffffff-1", "web-api-cccccccc-1", "../instances"])
def test_an_unknown_instance_is_refused_with_those_known(room: Room, instance: str) -> None:
    with pytest.raises(VoleryError) as refused:
        room.texts(instance=instance)
    assert refused.value.code is Code.NOT_FOUND
    assert refused.value.hint == (
        "known: web-bbbbbbbb-2, web-bbbbbbbb-1, web-aaaaaaaa-2, web-aaaaaaaa-1"
    )


def test_without_a_control_plane_the_files_are_read(room: Room) -> None:
    home = Home(room.home)
    found = offline_logs(home, "web", LogQuery())
    assert found is not None and [line.text for line in found.past()] == ["b2 serves"]
    for nothing in ("shop", "../instances", "*"):
        assert offline_logs(home, nothing, LogQuery()) is None


def test_following_goes_on_with_a_new_instance_of_the_same_name(room: Room) -> None:
    place = room.home / "instances" / "web-bbbbbbbb-2"

    async def scenario() -> list[str]:
        logs = Logs(room.home, "web", LogQuery(follow=True), tuple)
        lines = logs.follow(asyncio.Event())
        seen = [(await anext(lines)).text]
        place.rename(room.home / "logs" / "web" / "web-bbbbbbbb-2-500")
        room.wrote("instances/web-bbbbbbbb-2", "b2 is back", NEW + 4)
        seen.append((await anext(lines)).text)
        await lines.aclose()  # type: ignore[attr-defined]
        return seen

    seen = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert seen == ["b2 serves", "b2 is back"]


def test_following_without_the_past_shows_all_that_comes(room: Room) -> None:
    place = room.home / "instances" / "web-bbbbbbbb-2"

    async def scenario() -> set[str]:
        lines = Logs(room.home, "web", LogQuery(follow=True, lines=0), tuple).follow(
            asyncio.Event()
        )
        first = asyncio.ensure_future(anext(lines))
        while not first.done():
            with (place / "log").open("a") as log:
                log.write("it goes on\n")
            await asyncio.sleep(0.1)
        seen = {(await first).text}
        room.wrote("instances/web-cccccccc-1", "a new one", NEW + 4)
        while "a new one" not in seen:
            seen.add((await anext(lines)).text)
        await lines.aclose()  # type: ignore[attr-defined]
        return seen

    seen = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert seen == {"it goes on", "a new one"}


def test_instances_of_a_service_with_state_and_of_one_whose_name_begins_the_same(
    tmp_path: Path,
) -> None:
    room = Room(tmp_path)
    for name in ("orders-db-0", "orders-db-1", "orders-1a2b3c4d-1"):
        room.wrote(f"instances/{name}", name, NEW)

    def shown(service: str, **query: object) -> list[str]:
        logs = Logs(room.home, service, LogQuery(**query), tuple)  # type: ignore[arg-type]
        logs.check()
        return [line.text for line in logs.past()]

    assert shown("orders-db") == ["orders-db-0", "orders-db-1"]
    assert shown("orders-db", instance="orders-db-1") == ["orders-db-1"]
    assert shown("orders") == ["orders-1a2b3c4d-1"]


def test_a_secret_that_is_set_while_somebody_follows_is_hidden_too(room: Room) -> None:
    secrets = ["first"]

    async def scenario() -> list[str]:
        lines = Logs(room.home, "web", LogQuery(follow=True), lambda: secrets).follow(
            asyncio.Event()
        )
        seen = [(await anext(lines)).text]
        secrets.append("second")
        room.wrote("instances/web-cccccccc-1", "the key is second", NEW + 4)
        seen.append((await anext(lines)).text)
        await lines.aclose()  # type: ignore[attr-defined]
        return seen

    seen = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert seen == ["b2 serves", "the key is ***"]


@pytest.mark.parametrize("follow", [False, True])
def test_where_the_secrets_cannot_be_read_nothing_is_shown_and_it_says_so(
    room: Room, follow: bool
) -> None:
    """Before the first line, while the answer can still be an error."""
    plane = ControlPlane(Home(room.home))
    plane.secrets.set("KEY", "swordfish")
    (room.home / "secrets" / "key").chmod(0o644)
    with pytest.raises(VoleryError, match="others may read"):
        plane.logs("web", LogQuery(follow=follow))


def test_whoever_follows_is_told_when_the_secrets_cannot_be_read_any_more(room: Room) -> None:
    readable = True

    def secrets() -> list[str]:
        if not readable:
            raise VoleryError("others may read the key of the secrets")
        return []

    async def scenario() -> None:
        nonlocal readable
        lines = Logs(room.home, "web", LogQuery(follow=True), secrets).follow(asyncio.Event())
        await anext(lines)
        readable = False
        room.wrote("instances/web-cccccccc-1", "the key is second", NEW + 4)
        with pytest.raises(VoleryError, match="others may read"):
            await anext(lines)

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_long_logs_are_never_whole_in_memory(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def endless(*_: object) -> Iterator[supervise.LogLine]:
        nonlocal taken
        while True:
            taken += 1
            yield supervise.LogLine(NEW, "again")

    async def scenario() -> None:
        lines = ControlPlane(Home(room.home)).logs("web", LogQuery(since=OLD))
        assert (await anext(lines)).text == "again"
        await lines.aclose()  # type: ignore[attr-defined]

    monkeypatch.setattr("volery.api.logs.read", endless)
    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert taken < 10 * PIECE_LINES


def test_an_instance_that_goes_while_its_log_is_read_is_read_to_its_end(room: Room) -> None:
    place = room.home / "instances" / "web-bbbbbbbb-2"
    text = "".join(f"line {number}\n" for number in range(100_000))
    (place / "log").write_text(text)
    (place / "log.index").write_text(f"0 0\n{NEW} {len(text)}\n")
    lines = Logs(room.home, "web", LogQuery(), tuple).past()
    assert next(lines).text == "line 0"
    place.rename(room.home / "logs" / "web" / "web-bbbbbbbb-2-500")
    assert len(list(lines)) == 99_999


def test_whoever_follows_much_looks_for_new_instances_now_and_then(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, looked = room.home / "instances" / "web-bbbbbbbb-2" / "log", 0
    log.write_text("much\n" * 10_000)

    def counted(home: Path, service: str, query: LogQuery) -> list[Place]:
        nonlocal looked
        looked += 1
        return there(home, service, query)

    async def scenario() -> None:
        lines = Logs(room.home, "web", LogQuery(follow=True), tuple).follow(asyncio.Event())
        for _ in range(10_000):
            await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]

    monkeypatch.setattr("volery.api.logs.there", counted)
    asyncio.run(asyncio.wait_for(scenario(), 120))
    assert looked < 1000
