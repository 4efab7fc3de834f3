"""A probe beside other work, and a probe from a command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest
from integration.prober.servers import Http1Server, closed_port, in_thread, listening

from volery.model.errors import Code, VoleryError
from volery.prober import Kind, ProbePlan, Stream, probing
from volery.prober.main import parse_and_probe


def _plan(port: int) -> ProbePlan:
    url = f"http://127.0.0.1:{port}/"
    return ProbePlan((Stream(Kind.HTTP1, url, 200), Stream(Kind.HTTP1_FRESH, url, 200)), 600)


def test_a_probe_runs_until_the_block_is_left() -> None:
    with in_thread(listening(Http1Server("none"))) as port, probing(_plan(port)) as running:
        running.wait_for(20)
        before = running.answered
        running.wait_for(20)
        assert running.answered >= before + 20
        assert running.failed == 0
    report = running.report
    assert report.lost == 0
    assert report.sent >= 80
    assert report.seconds < 300


def test_waiting_for_answers_that_do_not_come_is_an_error() -> None:
    with closed_port() as port, probing(_plan(port)) as running:
        with pytest.raises(VoleryError, match="did not get 1 more"):
            running.wait_for(1, timeout=0.3)
        while not running.failed:
            time.sleep(0.01)
        assert running.failed > 0
    assert set(running.report.causes) == {"refused"}


def test_a_wrong_plan_is_refused_before_it_starts() -> None:
    with pytest.raises(VoleryError, match="at least one stream"), probing(ProbePlan(())):
        pass


def test_an_ended_probe_can_be_left() -> None:
    with closed_port() as port, probing(ProbePlan(_plan(port).streams, 0.1)) as running:
        assert running.report.sent > 0
        with pytest.raises(VoleryError):
            running.wait_for(1)


def test_text_in_report_out() -> None:
    with in_thread(listening(Http1Server("none"))) as port:
        report = parse_and_probe(
            f"127.0.0.1:{port}", kinds="http1,http1-fresh,upload", rate=20, duration="300ms"
        )
    assert [stream.kind for stream in report.streams] == ["http1", "http1-fresh", "upload"]
    assert report.lost == 0 < report.sent


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kinds": "http3"}, "no kind of request is called 'http3'"),
        ({"duration": "soon"}, "must be a duration"),
        ({"duration": "2h"}, "at most 3600 s"),
        ({"kinds": ""}, "at least one stream"),
    ],
)
def test_wrong_arguments_are_told(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(VoleryError, match=says) as wrong:
        parse_and_probe("http://127.0.0.1:1/", **arguments)  # type: ignore[arg-type]
    assert wrong.value.code is Code.INVALID


def test_an_interrupt_ends_it_with_its_report() -> None:
    server = Http1Server("none")
    script = (
        "import sys; from volery.prober.main import parse_and_probe as p;"
        "print(p(sys.argv[1], rate=100, duration='1h').render())"
    )
    with in_thread(listening(server)) as port:
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"http://127.0.0.1:{port}/"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            while server.did.total() < 20 and process.poll() is None:
                threading.Event().wait(0.01)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert "lost 0 of" in said
