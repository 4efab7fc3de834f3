"""Asking an admin interface: what is understood, and when a connection is used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from volery.traffic.admin import Admin, AdminError

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nserver: envoy\r\n\r\nLIVE\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"4\r\nabcd\r\nA\r\n0123456789\r\n0\r\n\r\n"
)
NOT_YET = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\n\r\nPRE_INITIALIZING"
BROKEN_OFF = CHUNKED[:-20]
SILENCE = b""


class Paper:
    """An admin interface that gives each question the next answer, a few bytes at a time."""

    def __init__(self, *answers: bytes) -> None:
        self.questions: list[str] = []
        self.serving: list[asyncio.Task[None]] = []
        self._answers = list(answers)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection more."""
        self.serving.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b""
        while answer != BROKEN_OFF and (line := await reader.readline()):
            if line.startswith(b"GET"):
                self.questions.append(line.decode().strip())
            if line != b"\r\n":
                continue
            answer = self._answers.pop(0)
            for start in range(0, len(answer), 7):
                writer.write(answer[start : start + 7])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def asked(folder: Path, paper: Paper) -> AsyncIterator[Admin]:
    """A client of it, at a path too long for an address."""
    deep = folder / ("long" * 30)
    deep.mkdir()
    short = folder / "s"
    server = await asyncio.start_unix_server(paper.serve, short)
    short.rename(deep / "admin.sock")
    client = Admin(deep / "admin.sock")
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await asyncio.gather(*paper.serving)


def run(folder: Path, paper: Paper, test: Callable[[Admin], Coroutine[None, None, None]]) -> None:
    async def whole() -> None:
        async with asked(folder, paper) as client:
            await test(client)

    asyncio.run(whole())


def test_answers_of_both_forms_come_over_one_connection(tmp_path: Path) -> None:
    paper = Paper(PLAIN, CHUNKED, PLAIN)

    async def test(client: Admin) -> None:
        assert await client.ready()
        assert await client.ask("/stats?filter=a") == "abcd0123456789"
        assert await client.ready()

    run(tmp_path, paper, test)
    assert paper.questions[1] == "GET /stats?filter=a HTTP/1.1"
    assert len(paper.serving) == 1


def test_questions_at_the_same_time_are_asked_one_after_the_other(tmp_path: Path) -> None:
    paper = Paper(CHUNKED, PLAIN)

    async def test(client: Admin) -> None:
        found = await asyncio.gather(client.ask("/a"), client.ask("/b"))
        assert list(found) == ["abcd0123456789", "LIVE\n"]

    run(tmp_path, paper, test)
    assert len(paper.serving) == 1


def test_another_status_is_no_answer(tmp_path: Path) -> None:
    paper = Paper(NOT_YET, NOT_YET)

    async def test(client: Admin) -> None:
        with pytest.raises(AdminError, match="/stats answered 503"):
            await client.ask("/stats")
        assert not await client.ready()

    run(tmp_path, paper, test)


@pytest.mark.parametrize("bad", [BROKEN_OFF, b"nonsense\r\n\r\n", SILENCE])
def test_a_connection_that_went_wrong_is_not_used_again(tmp_path: Path, bad: bytes) -> None:
    paper = Paper(bad, CHUNKED)

    async def test(client: Admin) -> None:
        client.patience = 0.2
        with pytest.raises(AdminError):
            await client.ask("/first")
        client.patience = 60.0
        assert await client.ask("/second") == "abcd0123456789"

    run(tmp_path, paper, test)
    assert len(paper.serving) == 2


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    async def test() -> None:
        client = Admin(tmp_path / "admin.sock")
        assert not await client.ready()
        with pytest.raises(AdminError):
            await client.ask("/stats")
        await client.close()

    asyncio.run(test())
