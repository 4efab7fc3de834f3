"""What a client makes of a stream that breaks off, and of a control plane that comes back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from unit.cli.desk import Desk

from volery.api.client import Client, Json
from volery.cli.commands.looking import events
from volery.model.errors import VoleryError

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
        with pytest.raises(VoleryError, match="the control plane broke off"):
            next(stream)


def test_no_event_is_missed_while_the_control_plane_is_started_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, asked = Desk(), []
    desk.up()

    def stream(path: str, **query: object) -> Iterator[Json]:
        asked.append(query["after"])
        yield {"seq": 1000 + len(asked)}
        if len(asked) == 1:
            raise VoleryError("the control plane broke off: reset")

    monkeypatch.setattr(desk.client, "stream", stream)
    assert events(follow=True, limit=0, session=desk.session("json")) == 0
    assert asked[1] == 1001
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1001, 1002]
