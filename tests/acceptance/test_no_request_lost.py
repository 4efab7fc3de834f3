"""Nothing that is done on purpose loses a request, of whatever protocol (design rule 1)."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from acceptance.project import Project, until
from acceptance.services import GRPC, HTTP, HTTP2, TCP, WEBSOCKET, environment_of, install, route
from volery.prober import Kind, ProbePlan, Running, Stream, probing

SECONDS = 300.0


def web(project: Project, version: str = "1", warmup: float | str = 0, **block: Any) -> None:
    """A service behind the gateway's root, two instances of it."""
    new = "web" not in project.manifest["services"]
    install(project, "web", HTTP, version=version, warmup=warmup, **{"scale": 2} | block)
    if new:
        route(project, "web", "/")


def http_streams(project: Project, rate: float = 20.0) -> tuple[Stream, ...]:
    """Every way of HTTP, slow requests in flight included."""
    url = f"http://127.0.0.1:{project.port}"
    return (
        Stream(Kind.HTTP1, f"{url}/a", rate, connections=4),
        Stream(Kind.HTTP1_FRESH, f"{url}/b", rate),
        Stream(Kind.HTTP2, f"{url}/c", rate),
        Stream(Kind.UPLOAD, f"{url}/upload", 4.0, span=1.0, expect=b"received 65536"),
        Stream(Kind.DOWNLOAD, f"{url}/download", 4.0, span=1.0),
    )


@contextmanager
def nothing_lost(*streams: Stream) -> Iterator[Running]:
    """Requests flow before, while and after the block runs, and all are answered."""
    with probing(ProbePlan(streams, SECONDS, arrivals="constant")) as running:
        running.wait_for(4)
        yield running
        running.wait_for(4)
    report = running.report
    assert report.lost == 0, report.render(samples=20)


def phase(project: Project, service: str) -> str:
    return str(project.ok("--output", "json", "rollout", service).json["phase"])


def test_rolling_deploys_of_http(project: Project) -> None:
    web(project)
    project.ok("up")
    with nothing_lost(*http_streams(project)) as running:
        for version in ("2", "3", "4"):
            web(project, version)
            assert project.ok("--output", "json", "deploy", "web").json["phase"] == "done"
    assert {"1", "2", "3", "4"} <= set(running.report.versions)


def test_rolling_deploys_of_grpc_websocket_and_tcp(project: Project) -> None:
    short = {"drain": "1s", "grace": "4s"}
    install(project, "teller", HTTP, needs=["ledger"])
    route(project, "teller", "/")
    install(project, "echo", WEBSOCKET, stop=short)
    route(project, "echo", "/echo")
    install(project, "rates", GRPC, protocol="grpc", scale=2)
    route(project, "rates", "/birds.Rates/")
    install(project, "ledger", TCP, protocol="tcp", scale=2)
    project.ok("up")

    url = f"http://127.0.0.1:{project.port}"
    streams = (
        Stream(Kind.WEBSOCKET, f"{url}/echo", 10.0),
        Stream(Kind.GRPC, f"{url}/birds.Rates/Get", 20.0, payload=b"one {n}", echo=True),
        Stream(Kind.GRPC_BIDI, f"{url}/birds.Rates/Stream", 2.0, payload=b"m", span=1.0),
        Stream(Kind.LINE, edge_of(project, "teller", "LEDGER_URL"), 20.0),
    )
    with nothing_lost(*streams) as running:
        for version in ("2", "3"):
            for name, source in (("echo", WEBSOCKET), ("rates", GRPC), ("ledger", TCP)):
                install(project, name, source, version=version)
            project.ok("deploy", "echo", "rates", "ledger")
    assert all(stream.ok > 0 for stream in running.report.streams)


def test_a_release_that_speaks_another_http(project: Project) -> None:
    web(project)
    project.ok("up")
    url = f"http://127.0.0.1:{project.port}"
    streams = Stream(Kind.HTTP1, f"{url}/a", 20.0), Stream(Kind.HTTP2, f"{url}/b", 20.0)
    with nothing_lost(*streams):
        project.manifest["services"]["web"]["protocol"] = "http2"
        install(project, "web", HTTP2)
        project.write()
        assert project.ok("--output", "json", "deploy", "web").json["phase"] == "done"
        project.ok("rollback", "web")
    project.manifest["services"]["web"]["protocol"] = "tcp"
    project.manifest["gateway"]["routes"].clear()
    project.write()
    for word in ("plan", "deploy"):
        refused = project.volery(word, *(["web"] if word == "deploy" else []))
        assert refused.code == 2
        assert "web speaks http while it runs, not tcp" in refused.err
        assert "services.web.protocol" in refused.err and "another name" in refused.err


def edge_of(project: Project, caller: str, variable: str) -> str:
    """Where a caller reaches a need: as its own process sees it."""
    pid = project.status()["services"][caller]["instances"][0]["pid"]
    address = environment_of(pid)[variable]
    assert address.startswith("tcp://127.0.0.1:")
    return address


def test_blue_green_there_and_back(project: Project) -> None:
    web(project, deploy={"strategy": "blue-green"})
    project.ok("up")
    with nothing_lost(*http_streams(project)) as running:
        web(project, "2")
        project.ok("deploy", "web")
        assert project.get("/")[1].startswith("2 ")
        running.wait_for(3)
        project.ok("rollback", "web")
        assert project.get("/")[1].startswith("1 ")
        web(project, "3")
        project.ok("deploy", "web")
    assert set(running.report.versions) == {"1", "2", "3"}


def test_restart_and_scale(project: Project) -> None:
    web(project)
    project.ok("up")
    before = {item["pid"] for item in project.status()["services"]["web"]["instances"]}
    with nothing_lost(*http_streams(project)):
        project.ok("scale", "web", "4")
        project.ok("scale", "web", "1")
        project.ok("restart", "web")
        project.ok("scale", "web", "2")
    after = {item["pid"] for item in project.status()["services"]["web"]["instances"]}
    assert not before & after and len(after) == 2


@pytest.mark.parametrize("word", ["abort", "rollback"])
def test_turned_round_in_the_middle(project: Project, word: str) -> None:
    web(project, scale=3, health={"ready": {"tcp": True}, "every": "200ms", "startup": "10m"})
    project.ok("up")
    # The first new instance serves, the second never gets ready: the middle lasts.
    web(project, "2", warmup='0 if os.environ["VOLERY_INSTANCE"].endswith("-1") else 900')
    with nothing_lost(*http_streams(project)):
        deploy = project.start("deploy", "web")
        until(lambda: phase(project, "web") == "shifting", "the deploy is in its middle")
        project.ok(word, "web")
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 3, out + err
    assert phase(project, "web") == "rolled_back"
    service = project.status()["services"]["web"]
    assert service["state"] == "healthy" and len(service["instances"]) == 3
    assert project.get("/")[1].startswith("1 ")


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_control_plane_killed_in_the_middle_of_a_deploy(project: Project, strategy: str) -> None:
    web(project, deploy={"strategy": strategy})
    project.ok("up")
    web(project, "2", warmup=5)
    with nothing_lost(*http_streams(project)):
        deploy = project.start("--output", "json", "deploy", "web")
        until(lambda: phase(project, "web") in ("starting", "shifting"), "the deploy has begun")
        killed = project.status()["processes"]["control_plane"]
        os.kill(killed, signal.SIGKILL)
        out, err = deploy.communicate(timeout=300)
        assert deploy.returncode == 0, out + err
    assert json.loads(out)["phase"] == "done"
    status = project.status()
    assert status["processes"]["control_plane"] != killed, "its shim started another one"
    assert status["services"]["web"]["state"] == "healthy"
    assert project.get("/")[1].startswith("2 ")


def test_a_refused_deploy(project: Project) -> None:
    web(project)
    project.ok("up")
    install(project, "web", "import sys; sys.exit('no bird seed {version}')", version="2")
    with nothing_lost(*http_streams(project)) as running:
        refused = project.volery("deploy", "web")
        assert refused.code == 3 and "no bird seed 2" in refused.text
    assert set(running.report.versions) == {"1"}


def test_another_route_and_service(project: Project) -> None:
    """`up` changes the gateway under load."""
    web(project)
    project.ok("up")
    install(project, "more", HTTP)
    with nothing_lost(*http_streams(project)):
        route(project, "more", "/more")
        project.ok("up")
        assert project.get("/more")[1].startswith("1 more-")


def renamed(project: Project, old: str, new: str) -> None:
    """One edit: the service and whatever leads to it."""
    services = project.manifest["services"]
    services[new] = services.pop(old)
    for item in project.manifest["gateway"]["routes"]:
        item["service"] = new if item["service"] == old else item["service"]
    project.write()


def test_a_service_that_users_reach_is_renamed(project: Project) -> None:
    web(project)
    project.ok("up")
    with nothing_lost(*http_streams(project)) as running:
        renamed(project, "web", "front")
        project.manifest["services"]["front"]["test"] = "false"
        project.write()
        assert project.volery("up").code == 1
        services = project.status()["services"]
        assert services["front"]["removed"] is None
        why = services["web"]["removed"]
        assert why.endswith("; stays while users reach it at / until front serves")
        assert f"web: {why}" in project.ok("status").out and why in project.ok("plan").out
        running.wait_for(2)
        del project.manifest["services"]["front"]["test"]
        project.manifest["services"]["front"]["env"] = {"TRY": "2"}
        project.write()
        project.ok("up")
        until(lambda: list(project.status()["services"]) == ["front"], "web is removed")
    assert project.get("/")[1].startswith("1 front-")


def test_a_need_is_renamed(project: Project) -> None:
    """The caller's old release calls the old need until the last of it is gone."""
    install(project, "teller", HTTP, needs=["ledger"], scale=2)
    route(project, "teller", "/")
    install(project, "ledger", TCP, protocol="tcp")
    project.ok("up")
    users = Stream(Kind.HTTP1, f"http://127.0.0.1:{project.port}/a", 100.0, connections=4)
    held = Stream(Kind.LINE, edge_of(project, "teller", "LEDGER_URL"), 20.0)
    approve = {"strategy": "canary", "steps": ["50%"], "approve": True}
    with probing(ProbePlan((users, held), SECONDS, arrivals="constant")) as running:
        running.wait_for(4)
        renamed(project, "ledger", "books")
        project.manifest["services"]["teller"] |= {"needs": ["books"], "deploy": approve}
        project.write()
        project.ok("up", "--detach")
        until(lambda: phase(project, "teller") == "paused", "the canary waits for approval")
        running.wait_for(4)
        assert running.failed == 0, "the old release calls ledger still"
        why = project.status()["services"]["ledger"]["removed"]
        assert "stays while teller@" in why and why.endswith(" may call it")
        project.ok("promote", "teller")
        until(lambda: phase(project, "teller") == "done", "the new release calls books")
    assert "books" in project.status()["services"]
