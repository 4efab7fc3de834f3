"""What a client makes of a stream that breaks off, and of a control plane that comes back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.cli.desk import Desk

from volery.api.client import BrokenOff, Client, Json
from volery.cli.commands.looking import OVERLAP_SECONDS, events, logs
from volery.model import moment
from volery.model.errors import Code, VoleryError

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"a\r\ndata: {}\n\n\r\n"
WHOLE, TORN, HALF = HEAD + CHUNK + b"0\r\n\r\n", HEAD + CHUNK, HEAD + CHUNK + b"b\r\ndata"


@contextmanager
def answering(folder: Path, content: bytes) -> Iterator[Client]:
    path = folder / "api.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(content)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(path)
        thread.join()


def test_a_stream_that_ends_is_read_to_its_end(tmp_path: Path) -> None:
    with answering(tmp_path, WHOLE) as client:
        assert list(client.stream("/v1/events")) == [{}]


@pytest.mark.parametrize("content", [TORN, HALF])
def test_one_that_breaks_off_is_not_taken_for_a_whole_one(tmp_path: Path, content: bytes) -> None:
    with answering(tmp_path, content) as client:
        stream = client.stream("/v1/events")
        assert next(stream) == {}
        with pytest.raises(BrokenOff, match="the control plane broke off"):
            next(stream)


class Outages:
    """A control plane whose streams end, the first ones before their time."""

    def __init__(self, desk: Desk, *ends: Exception | None) -> None:
        self.asked: list[dict[str, object]] = []
        self.lines: list[list[tuple[str, float]]] = []
        """What each stream sends: which instance, and how many seconds ago."""
        self._ends = list(ends)
        desk.client.stream = self.stream  # type: ignore[method-assign]

    def stream(self, path: str, **query: object) -> Iterator[Json]:
        self.asked.append(query)
        number = len(self.asked)
        for instance, ago in self.lines.pop(0) if self.lines else [("shop-1", 0.0)]:
            at = moment.time(time.time() - ago)
            line = {"instance": instance, "text": f"{number}", "crashed": False, "at": at}
            yield line | {"seq": 1000 + number}
        end = self._ends.pop(0)
        if end is not None:
            raise end


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("VOLERY_HOME", str(tmp_path))
    desk = Desk()
    desk.up()
    return desk


RESET = BrokenOff("the control plane broke off: reset")


def comes_back(monkeypatch: pytest.MonkeyPatch, *at_each_end: bool) -> None:
    answers = iter(at_each_end)
    monkeypatch.setattr("volery.api.launch.comes_back", lambda home: next(answers))


@pytest.mark.parametrize("end", [RESET, None])
def test_no_event_is_missed_while_the_control_plane_is_started_again(
    desk: Desk,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    end: Exception | None,
) -> None:
    """Killed, or to make room for another version."""
    plane = Outages(desk, end, None)
    comes_back(monkeypatch, True, False)
    assert events(follow=True, limit=0, session=desk.session("json")) == 0
    assert [query["after"] for query in plane.asked][1:] == [1001]
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1001, 1002]


def test_logs_go_on_where_the_control_plane_is_started_again(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, before = Outages(desk, RESET, None), time.time()
    comes_back(monkeypatch, True, False)
    assert logs("shop", follow=True, lines=5, session=desk.session()) == 0
    first, again = plane.asked
    assert (first["lines"], first["since"], again["lines"]) == (5, None, None)
    assert isinstance(again["since"], float), "from a little before it broke off"
    assert before - OVERLAP_SECONDS <= again["since"] + 0.001 < time.time() - OVERLAP_SECONDS
    assert capsys.readouterr().out == "shop-1 | 1\nshop-1 | 2\n"


def test_logs_go_on_from_what_was_shown(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent may be far behind what is written, and one instance behind the others."""
    plane, before = Outages(desk, RESET, None), time.time()
    plane.lines = [
        [("shop-1", 700.0), ("shop-2", 9.0), ("shop-1", 600.0)],
        [("shop-1", 599.0), ("shop-2", 599.0), ("shop-2", 3.0)],
    ]
    comes_back(monkeypatch, True, False)
    assert logs("shop", follow=True, session=desk.session()) == 0
    since = plane.asked[1]["since"]
    assert isinstance(since, float)
    assert before - 600 - OVERLAP_SECONDS <= since + 0.001 <= time.time() - 600 - OVERLAP_SECONDS
    told = capsys.readouterr().out.splitlines()
    assert told[3:] == ["shop-1 | 2", "shop-2 | 2"], "nothing is shown a second time"


@pytest.mark.parametrize("lines", [None, 5, 0])
def test_logs_of_which_none_was_shown_yet(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, lines: int | None
) -> None:
    plane, before = Outages(desk, RESET, None), time.time()
    plane.lines = [[], []]
    comes_back(monkeypatch, True, False)
    assert logs("shop", follow=True, lines=lines, session=desk.session()) == 0
    first, again = plane.asked
    if lines != 0:
        assert again == first
    else:
        assert again["lines"] is None and isinstance(again["since"], float)
        assert before <= again["since"] <= time.time(), "nothing from before it was asked for"


def test_nothing_needs_to_have_been_shown_to_go_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket of one that ends goes before its shim, also where the environment is stopped."""
    gone = VoleryError("no control plane runs", code=Code.NO_CONTROL_PLANE)
    plane = Outages(desk, None, gone, None, gone)
    plane.lines = [[]] * 4
    comes_back(monkeypatch, True, True, True, False)
    assert logs("shop", follow=True, session=desk.session()) == 0
    assert len(plane.asked) == 4


def test_a_refusal_is_no_outage(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    Outages(desk, RESET, VoleryError("the ledger cannot be read"))
    comes_back(monkeypatch, True)
    with pytest.raises(VoleryError, match="the ledger cannot be read"):
        events(follow=True, limit=0, session=desk.session("json"))


def test_one_that_broke_off_and_does_not_come_back_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    Outages(desk, RESET)
    comes_back(monkeypatch, False)
    with pytest.raises(BrokenOff):
        logs("shop", follow=True, session=desk.session())
