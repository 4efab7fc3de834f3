"""Reading bytes: frames and messages arrive cut anywhere; markers hide in headers or JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volery.prober import Kind, ProbePlan, Stream
from volery.prober.grpc_calls import Messages, frame
from volery.prober.http2 import Frames
from volery.prober.outcome import Answer, Failure, check_content, check_status, marker

STREAM = Stream(Kind.HTTP1, "http://127.0.0.1:8080/", 1)
PLAN = ProbePlan((STREAM,), marker_field="release")


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_survive_any_cutting(payloads: list[bytes], data: st.DataObject) -> None:
    wanted = [
        (kind % 10, len(payload).to_bytes(3, "big") + bytes([kind % 10, 0, 0, 0, 0, 1]) + payload)
        for kind, payload in enumerate(payloads)
    ]
    stream = b"".join(raw for _, raw in wanted)
    frames, found = Frames(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += list(frames.split(stream[:cut]))
        stream = stream[cut:]
    assert found == wanted


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_messages_survive_any_cutting(messages: list[bytes], data: st.DataObject) -> None:
    seen: list[bytes] = []
    came, wire = Messages(seen.append), b"".join(map(frame, messages))
    size = len(wire)
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        came.add(wire[:cut])
        wire = wire[cut:]
    came.check_complete(len(messages))
    assert (seen, came.size) == (messages, size)


def test_a_message_that_is_not_whole_is_truncated() -> None:
    came = Messages(lambda _: None)
    came.add(frame(b"abcdef")[:-1])
    with pytest.raises(Failure, match="truncated_body: 10 bytes of an incomplete message"):
        came.check_complete(0)


def test_too_few_messages_are_truncated() -> None:
    came = Messages(lambda _: None)
    came.add(frame(b"a"))
    came.check_complete(0)
    with pytest.raises(Failure, match="truncated_body: 1 of 2 messages"):
        came.check_complete(2)


@pytest.mark.parametrize(
    ("answer", "release"),
    [
        (Answer({"x-release": "a@1"}, b'{"release": "a@2"}'), "a@1"),
        (Answer({}, b'{"release": "a@2"}'), "a@2"),
        (Answer({}, b'{"release": 3}'), "3"),
        (Answer({}, b'["release"]'), None),
        (Answer({}, b"\xff"), None),
        (Answer(), None),
    ],
)
def test_which_release_answered(answer: Answer, release: str | None) -> None:
    assert marker(PLAN, answer) == release


def test_a_wrong_status_says_what_the_proxy_said() -> None:
    answer = Answer({"x-envoy-response-flags": "UH"}, b"no healthy\n upstream")
    with pytest.raises(Failure) as failure:
        check_status(STREAM, 503, answer)
    assert failure.value.cause == "status_503"
    assert failure.value.detail == "x-envoy-response-flags=UH no healthy upstream"
    for right in (200, 204, 304, 399):
        check_status(STREAM, right, answer)
    with pytest.raises(Failure, match="status_404"):
        check_status(STREAM, 404, answer)
    check_status(Stream(Kind.HTTP1, STREAM.url, 1, ok_status=(404,)), 404, answer)


def test_content_is_checked_only_where_asked() -> None:
    check_content(STREAM, b"a", b"b")
    with pytest.raises(Failure, match="bad_echo"):
        check_content(Stream(Kind.HTTP1, STREAM.url, 1, echo=True), b"a", b"b")
    with pytest.raises(Failure, match="bad_answer: no 'owl' in 'tit'"):
        check_content(Stream(Kind.HTTP1, STREAM.url, 1, expect=b"owl"), b"a", b"tit")
