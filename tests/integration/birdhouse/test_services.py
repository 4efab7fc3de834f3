"""Each service of birdhouse does what it says, ends gracefully, and loses nothing meanwhile."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from integration.birdhouse.nest import (
    BIRDHOUSE,
    DEADLINE_SECONDS,
    Bird,
    environment,
    flying,
    manifest,
    started,
    until,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from volery.manifest.read import read
from volery.prober import Kind, ProbePlan, Stream, probe

SERVICES = ("storefront", "catalog", "ratings", "cart", "quotes")
WEB = ("storefront", "catalog", "quotes")
NOWHERE = "http://127.0.0.1:1"
NEEDS = {name: NOWHERE for name in ("CATALOG_URL", "RATINGS_URL", "QUOTES_URL", "CART_URL")}


def test_the_manifest_is_valid_and_names_every_folder() -> None:
    app = manifest()
    assert tuple(app.services) == SERVICES
    assert app.services["storefront"].needs["ratings"].importance == "degradable"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("catalog/service.py", "storefront/service.py"),
        ("ratings/with-grpc.sh", "storefront/with-grpc.sh"),
    ],
)
def test_copies_are_the_same(one: str, other: str) -> None:
    assert (BIRDHOUSE / one).read_bytes() == (BIRDHOUSE / other).read_bytes()


def _commands(name: str, folder: Path, **env: str) -> int:
    service = manifest().services[name]
    shutil.copytree(BIRDHOUSE / name, folder, dirs_exist_ok=True)
    codes = [
        subprocess.run(
            command, cwd=folder, env=environment(**env), capture_output=True, check=False
        ).returncode
        for command in (*service.build, *service.test)
    ]
    assert codes[:-1] == [0] * len(service.build)
    return codes[-1]


@pytest.mark.parametrize("name", SERVICES)
def test_build_and_tests_pass(name: str, tmp_path: Path) -> None:
    assert _commands(name, tmp_path) == 0


@pytest.mark.parametrize("name", WEB)
def test_a_web_service_answers_in_one_write_and_keeps_the_connection(
    name: str, tmp_path: Path
) -> None:
    with (
        flying(name, tmp_path, **NEEDS) as bird,
        socket.create_connection(("127.0.0.1", bird.port), timeout=DEADLINE_SECONDS) as line,
    ):
        for path, status in (("/healthz", b"200"), ("/nothing", b"404"), ("/healthz", b"200")):
            line.sendall(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
            head, _, body = line.recv(65536).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"\r\nx-release: bird@1" in head
            assert b"content-length: %d" % len(body) in head
            assert body


@pytest.mark.parametrize("name", WEB)
def test_idle_connections_do_not_delay_the_end(name: str, tmp_path: Path) -> None:
    with (
        flying(name, tmp_path, **NEEDS) as bird,
        socket.create_connection(("127.0.0.1", bird.port), timeout=DEADLINE_SECONDS) as line,
    ):
        line.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.recv(65536)
        assert bird.stop() == 0
        assert line.recv(65536) == b""
        assert "has finished" in bird.log.read_text()


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("catalog", Kind.HTTP1, "/birds"),
        ("catalog", Kind.HTTP1_FRESH, "/birds/wren"),
        ("storefront", Kind.HTTP1, "/healthz"),
        ("storefront", Kind.UPLOAD, "/api/photos"),
        ("storefront", Kind.DOWNLOAD, "/api/song"),
        ("storefront", Kind.WEBSOCKET, "/ws"),
        ("quotes", Kind.HTTP1, "/quote"),
        ("quotes", Kind.HTTP1_FRESH, "/quote"),
        ("ratings", Kind.GRPC, "/birdhouse.Ratings/All"),
        ("ratings", Kind.GRPC_STREAM, "/birdhouse.Ratings/Watch"),
        ("ratings", Kind.GRPC_BIDI, "/birdhouse.Ratings/Chat"),
        ("cart", Kind.LINE, ""),
    ],
)
def test_nothing_is_lost(name: str, kind: Kind, path: str, tmp_path: Path) -> None:
    with flying(name, tmp_path, **NEEDS, VOLERY_VOLUME=str(tmp_path)) as bird:
        scheme = {Kind.LINE: "tcp", Kind.WEBSOCKET: "ws"}.get(kind, "http")
        url = f"{scheme}://127.0.0.1:{bird.port}{path}"
        payload = b"{}" if name == "ratings" else b""
        stream = Stream(kind, url, 40, payload=payload, span=0.5, connections=4, timeout=30)
        report = asyncio.run(probe(ProbePlan((stream,), 1.0, "constant")))
        assert (report.lost, report.sent) == (0, 40), report.render()
        if name != "cart":
            assert report.versions == {"bird@1": 40}
        assert bird.stop() == 0


# --- the storefront and its needs ------------------------------------------------------------


@pytest.fixture
def flock(tmp_path: Path) -> Iterator[dict[str, Bird]]:
    """All five, each with the addresses of what it needs."""
    with ExitStack() as stack:
        birds = {
            name: stack.enter_context(flying(name, tmp_path, VOLERY_VOLUME=str(tmp_path)))
            for name in ("catalog", "ratings", "cart", "quotes")
        }
        urls = {f"{name.upper()}_URL": bird.url for name, bird in birds.items()}
        birds["storefront"] = stack.enter_context(flying("storefront", tmp_path, **urls))
        yield birds


def whole(store: Bird) -> Any:
    """All birds, if nothing was missing."""
    found = store.json("/api/birds")
    return None if found["degraded"] else found


def with_stars(store: Bird) -> bytes | None:
    """The page, if ratings were there."""
    page = store.get("/")[1]
    return page if b"4.8 stars" in page else None


def test_the_storefront_puts_it_together(flock: dict[str, Bird]) -> None:
    store = flock["storefront"]
    found = until(lambda: whole(store))
    assert [bird["name"] for bird in found["birds"]][:2] == ["robin", "barn-owl"]
    assert found["birds"][0]["stars"] == 4.8
    page = until(lambda: with_stars(store))
    assert b"Troglodytes troglodytes" in page and b"bird" in page
    assert store.get("/api/cart/anna", "POST", "wren")[0] == 200
    assert store.json("/api/cart/anna") == {"answer": "VALUE", "wish": "wren"}
    assert store.json("/api/cart/bert") == {"answer": "NONE", "wish": ""}
    assert store.get("/api/cart/anna", "POST", "wren; DROP")[0] == 404


def test_it_does_without_ratings_and_quotes_but_not_without_birds(flock: dict[str, Bird]) -> None:
    store = flock["storefront"]
    for name in ("ratings", "quotes", "cart"):
        flock[name].process.kill()
        flock[name].process.wait()
    found = store.json("/api/birds")
    assert found["degraded"] is True
    assert [bird["stars"] for bird in found["birds"]] == [None] * 5
    status, page = store.get("/")
    assert status == 200 and b"Ratings are not available" in page
    assert store.get("/api/cart/anna")[0] == 502
    flock["catalog"].process.kill()
    flock["catalog"].process.wait()
    assert [store.get(path)[0] for path in ("/api/birds", "/", "/healthz")] == [502, 502, 200]


def test_requests_in_flight_finish_after_sigterm(tmp_path: Path) -> None:
    with flying("storefront", tmp_path, **NEEDS) as bird:
        song = http.client.HTTPConnection("127.0.0.1", bird.port, timeout=DEADLINE_SECONDS)
        song.request("GET", "/api/song")
        answer = song.getresponse()
        photo = http.client.HTTPConnection("127.0.0.1", bird.port, timeout=DEADLINE_SECONDS)
        photo.putrequest("POST", "/api/photos")
        photo.putheader("content-length", "10")
        photo.endheaders(b"12345")
        with connect(f"ws://127.0.0.1:{bird.port}/ws") as feed:
            feed.send("tweet")
            assert feed.recv() == "tweet"
            bird.process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                feed.recv(DEADLINE_SECONDS)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        photo.send(b"67890")
        assert json.loads(photo.getresponse().read()) == {"bytes": 10}
        assert answer.read().count(b"tweet") == 10
        assert bird.process.wait(DEADLINE_SECONDS) == 0
        song.close()
        photo.close()


def test_large_and_strange_websocket_messages(tmp_path: Path) -> None:
    with flying("storefront", tmp_path, **NEEDS) as bird:
        with connect(f"ws://127.0.0.1:{bird.port}/ws", compression=None) as feed:
            for message in ("", "x" * 300, "ü" * 70_000, b"\0\1"):
                feed.send(message)
                assert feed.recv(DEADLINE_SECONDS) == message
            feed.ping().wait(DEADLINE_SECONDS)
            with pytest.raises(ConnectionClosed):  # while it is sent, or after
                feed.send("x" * (1024 * 1024 + 1))
                feed.recv(DEADLINE_SECONDS)
        assert bird.get("/ws")[0] == 400


def test_a_chunked_upload_is_counted(tmp_path: Path) -> None:
    with flying("storefront", tmp_path, **NEEDS) as bird:
        assert bird.get("/api/photos", "POST", iter([b"x" * 70_000, b"y"])) == (
            200,
            b'{"bytes": 70001}',
        )


# --- ratings and cart --------------------------------------------------------------------------


def test_a_rating_stream_in_flight_finishes_after_sigterm(tmp_path: Path) -> None:
    with (
        flying("ratings", tmp_path) as bird,
        grpc.insecure_channel(f"127.0.0.1:{bird.port}") as channel,
    ):
        watch: Any = channel.unary_stream("/birdhouse.Ratings/Watch")
        stream = watch(b"{}", timeout=DEADLINE_SECONDS)
        first = next(stream)
        bird.process.send_signal(signal.SIGTERM)
        assert len([first, *stream]) == 5
        assert bird.process.wait(DEADLINE_SECONDS) == 0


def test_without_grpc_the_reason_is_said(tmp_path: Path) -> None:
    shutil.copytree(BIRDHOUSE / "ratings", tmp_path / "ratings")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/false")
    done = subprocess.run(
        ["/bin/sh", "with-grpc.sh", "app.py"],
        cwd=tmp_path / "ratings",
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no Python on PATH has gRPC" in done.stderr


def _ask(bird: Bird, *lines: str) -> list[str]:
    with socket.create_connection(("127.0.0.1", bird.port), timeout=DEADLINE_SECONDS) as line:
        file = line.makefile("rw")
        answers = []
        for said in lines:
            file.write(said + "\n")
            file.flush()
            answers.append(file.readline().rstrip("\n"))
        return answers


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_cart_remembers(end: signal.Signals, tmp_path: Path) -> None:
    volume = {"VOLERY_VOLUME": str(tmp_path)}
    with flying("cart", tmp_path, **volume) as bird:
        assert _ask(bird, "SET anna wren", "GET anna") == ["OK", "VALUE wren"]
        bird.process.send_signal(end)
        code = bird.process.wait(DEADLINE_SECONDS)
        assert code == (0 if end == signal.SIGTERM else -signal.SIGKILL)
    with flying("cart", tmp_path, **volume) as bird:
        assert _ask(bird, "GET anna", "ping 5", "what") == [
            "VALUE wren",
            "ping 5",
            "ERROR say SET key value, GET key, or PING",
        ]


# --- variants --------------------------------------------------------------------------------

MODES = pytest.mark.parametrize("name", ["catalog", "storefront"])


def _path(name: str) -> str:
    return "/birds" if name == "catalog" else "/nothing"


@MODES
def test_variant_tests_fail(name: str, tmp_path: Path) -> None:
    assert _commands(name, tmp_path, VARIANT="tests-fail") == 1
    assert _commands(name, tmp_path, VARIANT="crash") == 0


@MODES
def test_variant_crash(name: str, tmp_path: Path) -> None:
    with started(name, tmp_path, VARIANT="crash", **NEEDS) as bird:
        assert bird.process.wait(DEADLINE_SECONDS) == 1
        assert "cannot find the nest" in bird.log.read_text()


@MODES
def test_variant_crash_loop(name: str, tmp_path: Path) -> None:
    with started(name, tmp_path, VARIANT="crash-loop", **NEEDS) as bird:
        until(lambda: _is_well(bird))
        assert bird.process.wait(DEADLINE_SECONDS) == 1
        assert "the nest fell down" in bird.log.read_text()


def _is_well(bird: Bird) -> bool:
    try:
        return bird.get("/healthz")[0] == 200
    except OSError:
        return False


@MODES
def test_variant_never_ready(name: str, tmp_path: Path) -> None:
    with flying(name, tmp_path, VARIANT="never-ready", **NEEDS) as bird:
        assert [bird.get("/healthz")[0] for _ in range(3)] == [503] * 3


@MODES
def test_variant_errors(name: str, tmp_path: Path) -> None:
    with flying(name, tmp_path, VARIANT="errors", **NEEDS) as bird:
        assert bird.get("/healthz")[0] == 200
        statuses = [bird.get(_path(name))[0] for _ in range(20)]
        assert [place for place, status in enumerate(statuses, 1) if status == 500] == [
            5, 10, 15, 20
        ]  # fmt: skip


@MODES
def test_variants_slow_and_slow_tail(name: str, tmp_path: Path) -> None:
    for variant, number, least in (("slow", 3, 0.3), ("slow-tail", 20, 2.0)):
        stream = Stream(Kind.HTTP1, "", 20, ok_status=(404,), timeout=30)
        with flying(name, tmp_path, VARIANT=variant, **NEEDS) as bird:
            url = f"http://127.0.0.1:{bird.port}{_path(name)}"
            plan = ProbePlan((_to(stream, url),), number / 20, "constant")
            report = asyncio.run(probe(plan))
        assert (report.sent, report.lost) == (number, 0)
        assert report.latency.max is not None and report.latency.max >= least


def _to(stream: Stream, url: str) -> Stream:
    return Stream(stream.kind, url, stream.rate, ok_status=stream.ok_status, timeout=stream.timeout)


@MODES
def test_variant_leak(name: str, tmp_path: Path) -> None:
    with flying(name, tmp_path, VARIANT="leak", **NEEDS) as bird:
        first = _resident(bird)
        until(lambda: _resident(bird) > first + 12 * 1024 * 1024)


def _resident(bird: Bird) -> int:
    pages = Path(f"/proc/{bird.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# --- the sixth, in Node ------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")
def test_the_badge_in_node(tmp_path: Path) -> None:
    shutil.copytree(BIRDHOUSE, tmp_path / "all")
    whole = tmp_path / "all" / "volery.yaml"
    text = whole.read_text().replace(
        "app: birdhouse", "app: birdhouse\ninclude: [badge/volery.yaml]"
    )
    whole.write_text(text)
    badge = read(whole).services["badge"]
    for command in badge.test:
        subprocess.run(
            command, cwd=tmp_path / "all/badge", env=environment(), check=True, capture_output=True
        )
    with flying("badge", tmp_path, badge) as bird:
        assert bird.get("/healthz") == (200, b"ready\n")
        assert b"bird@1" in bird.get("/badge")[1]
        stream = Stream(Kind.HTTP1, bird.url + "/", 100)
        assert asyncio.run(probe(ProbePlan((stream,), 0.5))).lost == 0
        assert bird.stop() == 0
