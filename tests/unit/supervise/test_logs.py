"""Logs: what the shim keeps and what a reader makes of it, also while it is being cut."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.supervise import logs
from volery.supervise.shim.log import GLANCE, HURRY, SELDOM, Log


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(log: Log, at: float, content: bytes) -> None:
    """Write at a moment."""
    os.write(log.fd, content)
    os.utime(log.fd, (at, at))


def texts(lines: Iterator[logs.LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_nothing_there_is_nothing_read(tmp_path: Path) -> None:
    assert texts(logs.read(tmp_path)) == []
    assert texts(logs.read(tmp_path, since=5.0)) == []
    assert texts(logs.read(tmp_path, lines=5)) == []


def test_all_and_the_last_lines(folder: Path) -> None:
    log = Log(1_000_000)
    os.write(log.fd, b"".join(b"line %d\n" % number for number in range(5000)) + b"unfinished")
    log.keep()
    everything = texts(logs.read(folder))
    assert everything == [f"line {number}" for number in range(5000)] + ["unfinished"]
    assert texts(logs.read(folder, lines=3)) == ["line 4998", "line 4999", "unfinished"]
    assert texts(logs.read(folder, lines=4000)) == everything[-4000:]
    assert texts(logs.read(folder, lines=9999)) == everything


def test_since_a_moment(folder: Path) -> None:
    log = Log(1_000_000)
    for number in range(10):
        write(log, 1000.0 + number, b"line %d\n" % number)
        log.keep()
    found = list(logs.read(folder, since=1007.0))
    assert [line.text for line in found] == ["line 7", "line 8", "line 9"]
    assert [line.at for line in found] == [1007.0, 1008.0, 1009.0]
    assert len(list(logs.read(folder, since=0.0))) == 10
    assert texts(logs.read(folder, since=2000.0)) == []
    assert texts(logs.read(folder, since=1005.0, lines=2)) == ["line 8", "line 9"]


def test_it_is_cut_at_its_limit_and_the_last_part_is_kept(folder: Path) -> None:
    log = Log(10_000)
    for number in range(3000):
        write(log, 1000.0 + number, b"line %5d\n" % number)
        log.keep()
    assert (folder / "log").stat().st_size <= 10_000
    assert (folder / "log.1").stat().st_size <= 20_000
    found = list(logs.read(folder))
    assert 900 < len(found) < 3000
    assert texts(iter(found)) == [f"line {number:5}" for number in range(3000 - len(found), 3000)]
    assert found[-1].at == 3999.0
    assert found[0].at == 1000.0 + 3000 - len(found)
    some = list(logs.read(folder, since=3900.0))
    assert texts(iter(some)) == [f"line {number:5}" for number in range(2900, 3000)]


def test_a_silent_log_is_looked_at_less_often_until_it_grows(folder: Path) -> None:
    log = Log(1_000_000)
    paces = []
    for _ in range(20):
        log.keep()
        paces.append(log.pace)
    assert GLANCE < paces[0] < paces[5] < paces[-1] == SELDOM
    os.write(log.fd, b"one line\n")
    log.keep()
    assert log.pace == GLANCE
    os.write(log.fd, b"x" * 300_000)
    log.keep()
    assert log.pace == HURRY
    log.keep()
    assert log.pace == GLANCE


def test_its_index_stays_small(folder: Path) -> None:
    log = Log(10_000_000)
    for _ in range(15_000):
        os.write(log.fd, b"x\n")
        log.keep()
    assert (folder / "log.index").stat().st_size < 300_000
    assert len(list(logs.read(folder, lines=100))) == 100


def test_an_endless_line_is_shown_in_pieces(folder: Path) -> None:
    log = Log(1_000_000)
    os.write(log.fd, b"x" * 200_000 + b"\nend\n")
    log.keep()
    *pieces, end = texts(logs.read(folder))
    assert end == "end" and "".join(pieces) == "x" * 200_000
    assert max(map(len, pieces)) <= 64 * 1024


def test_a_second_shim_of_the_folder_goes_on(folder: Path) -> None:
    log = Log(1000)
    os.write(log.fd, b"x" * 99 + b"\n")
    os.write(log.fd, (b"y" * 99 + b"\n") * 10)
    log.keep()
    os.write(log.fd, b"before\n")
    log.close()
    again = Log(1000)
    os.write(again.fd, b"after\n")
    again.keep()
    assert texts(logs.read(folder))[-3:] == ["y" * 99, "before", "after"]


def test_what_is_reserved_is_given_back(folder: Path) -> None:
    log = Log(1_000_000)
    os.write(log.fd, b"x" * 10)
    log.keep()
    log.close()
    assert (folder / "log").stat().st_blocks * 512 <= 8192


WRITER = """
import itertools, os, sys, time
os.chdir(sys.argv[1])
from volery.supervise.shim.log import Log
log = Log(20_000)
for number in itertools.count():
    os.write(log.fd, b"".join(b"%8d\\n" % line for line in range(number * 100, number * 100 + 100)))
    log.keep()
    time.sleep(0.002)
"""


def test_reading_while_it_is_cut_shows_no_line_twice_and_none_torn(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command) as writer:
        try:
            while not (tmp_path / "log.1").exists():
                assert writer.poll() is None
            for _ in range(30):
                found = [int(text) for text in texts(logs.read(tmp_path))[:-1]]
                assert found == sorted(set(found)), "a line twice, or out of order"
                last = [int(text) for text in texts(logs.read(tmp_path, lines=50))[:-1]]
                assert last == sorted(set(last))
        finally:
            writer.kill()


class Paused:
    """Time in which this process stands still for two seconds whenever it reads."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"%8d\n" % number for number in range(first, last))


def test_what_is_cut_while_a_reader_stands_still_is_not_taken_for_something_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, clock, really = Log(2000), Paused(), logs._bytes
    os.write(log.fd, numbered(0, 300))
    cuts = iter((True,))

    def read(path: Path, offset: int) -> bytes:
        if next(cuts, False):
            log.keep()
            os.write(log.fd, numbered(300, 500))
        clock.now += 2.0
        return really(path, offset)

    monkeypatch.setattr(logs, "time", clock)
    monkeypatch.setattr(logs, "_bytes", read)
    found = [int(text) for text in texts(logs.read(folder))]
    assert found[0] < 300 and found == list(range(found[0], 300))


def test_the_last_lines_are_the_last_ones_also_in_the_moment_of_a_cut(folder: Path) -> None:
    log, looks = Log(2000), threading.Event()
    os.write(log.fd, numbered(0, 400))
    rewrite = log._rewrite

    def late(cutting: bool, every: int = 1) -> None:
        if not cutting:
            looks.wait(60)
            time.sleep(0.1)
        rewrite(cutting, every)

    log._rewrite = late  # type: ignore[method-assign]
    cutting = threading.Thread(target=log.keep)
    cutting.start()
    while (folder / "log").stat().st_size:
        time.sleep(0.001)
    looks.set()
    assert texts(logs.read(folder, lines=3)) == ["     397", "     398", "     399"]
    cutting.join()


def test_following(folder: Path) -> None:
    log = Log(2000)
    os.write(log.fd, b"old 1\nold 2\nhalf")
    log.keep()
    seen: list[str] = []

    async def collect(lines: int | None, enough: int) -> None:
        async for line in logs.follow(folder, lines=lines, every=0.001):
            seen.append(line.text)
            if len(seen) >= enough:
                return

    async def scenario() -> None:
        follower = asyncio.create_task(collect(1, 202))
        while seen != ["old 2"]:
            await asyncio.sleep(0.001)
        os.write(log.fd, b" and half\n")
        for number in range(200):
            while len(seen) < number:
                await asyncio.sleep(0.001)
            os.write(log.fd, b"new %d\n" % number)
            log.keep()
        await follower

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert seen == ["old 2", "half and half", *(f"new {number}" for number in range(200))]


def test_following_ends_with_the_last_words_when_the_folder_is_moved(folder: Path) -> None:
    place = folder / "here"
    place.mkdir()
    os.chdir(place)
    log = Log(2000)
    seen: list[str] = []

    async def collect() -> None:
        seen.extend([line.text async for line in logs.follow(place, every=0.001)])

    async def scenario() -> None:
        follower = asyncio.create_task(collect())
        await asyncio.sleep(0)
        os.write(log.fd, b"last\nwords")
        log.keep()
        place.rename(folder / "there")
        await asyncio.wait_for(follower, 60)
        await collect()

    asyncio.run(scenario())
    assert seen == ["last", "words"]


def test_a_flood_from_a_thread_stays_bounded(folder: Path) -> None:
    log = Log(100_000)
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            os.write(log.fd, b"z" * 9_999 + b"\n")

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in itertools.repeat(None, 200):
            log.keep()
            assert (folder / "log.1").exists() is False or (
                folder / "log.1"
            ).stat().st_size <= 300_000
    finally:
        stop.set()
        thread.join()
    log.keep()
    log.keep()
    assert (folder / "log").stat().st_size <= 100_000
