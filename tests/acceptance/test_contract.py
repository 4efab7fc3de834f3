"""The contract from outside: what a service sees, what survives, and what never meets."""

from __future__ import annotations

import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from acceptance.project import Project, free_port, until
from acceptance.services import GRPC, HTTP, TCP, environment_of, install, route

JUNK = {"AWS_SECRET_ACCESS_KEY": "junk", "VOLERY_JUNK": "junk", "PYTHONDONTWRITEBYTECODE": "1"}
PASSED = {"LANG": "C.UTF-8", "TZ": "Europe/Berlin", "TMPDIR": "/tmp"}

DIARY = '''
"""Writes its version into its volume at every start, and shows what stands there."""
import os, pathlib
from http.server import BaseHTTPRequestHandler, HTTPServer

diary = pathlib.Path(os.environ["VOLERY_VOLUME"]) / "diary"
with diary.open("a") as file:
    file.write("{version}")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(diary.read_bytes())

    def log_message(self, *args):
        pass


HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
'''


def pid_of(project: Project, service: str) -> int:
    return int(project.status()["services"][service]["instances"][0]["pid"])


def test_a_service_sees_exactly_what_the_contract_lists(project: Project) -> None:
    install(project, "orders-db", TCP, protocol="tcp")
    install(project, "rates", GRPC, protocol="grpc")
    project.service("catalog")
    project.service(
        "shop",
        run=f"{sys.executable} server.py",
        needs=["catalog", "orders-db", "rates"],
        env={"LOG_LEVEL": "info", "N": "1"},
    )
    project.ok("up", env=JUNK | PASSED)

    status = project.status()["services"]["shop"]
    seen = environment_of(pid_of(project, "shop"))
    mine = project.environment()
    instance = status["instances"][0]
    host, _, port = instance["address"].partition(":")
    assert {name: value for name, value in seen.items() if not name.endswith("_URL")} == {
        "PATH": f"{mine['PATH']}:{Path(sys.executable).parent}",
        "HOME": mine["HOME"],
        **PASSED,
        "HOST": host,
        "PORT": port,
        "VOLERY_APP": "trial",
        "VOLERY_ENVIRONMENT": "dev",
        "VOLERY_SERVICE": "shop",
        "VOLERY_RELEASE": status["release"],
        "VOLERY_INSTANCE": instance["id"],
        "LOG_LEVEL": "info",
        "N": "1",
    }
    urls = {name: value for name, value in seen.items() if name.endswith("_URL")}
    assert set(urls) == {"CATALOG_URL", "ORDERS_DB_URL", "RATES_URL"}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", urls["CATALOG_URL"])
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", urls["ORDERS_DB_URL"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", urls["RATES_URL"])
    catalog = project.status()["services"]["catalog"]["instances"][0]["address"]
    assert not urls["CATALOG_URL"].endswith(catalog), "calls pass the data plane"
    assert project.get("/shop/call/catalog")[0] == 200


def test_builds_and_tests_do_not_see_the_callers_environment(project: Project) -> None:
    seen = project.folder.parent / "seen"
    show = f"sh -c 'env >> {seen}'"
    project.service("catalog", build=show, test=show, env={"LOG_LEVEL": "info"})
    project.ok("up", env=JUNK | PASSED)
    lines = seen.read_text().splitlines()
    assert sum(line.startswith("PATH=") for line in lines) == 2, "build and test"
    assert not [line for line in lines if "junk" in line], lines


def test_a_volume_survives_all_but_down_with_volumes(project: Project) -> None:
    install(project, "diary", DIARY, state={"volume": "data"})
    route(project, "diary", "/")

    def diary() -> str:
        status, body = project.get("/")
        return body if status == 200 else ""

    project.ok("up")
    assert diary() == "1"
    install(project, "diary", DIARY, version="2")
    project.ok("deploy", "diary")
    assert diary() == "12"
    project.ok("restart", "diary")
    assert diary() == "122"
    project.ok("down")
    project.ok("up")
    assert diary() == "1222"

    refused = project.volery("down", "--volumes")
    assert refused.code == 6 and "--yes" in refused.err, refused.text
    assert diary() == "1222", "nothing was touched"
    project.ok("down", "--volumes", "--yes")
    project.ok("up")
    assert diary() == "2"


def test_global_options_stand_before_or_after_the_command(project: Project) -> None:
    project.service("catalog")
    project.ok("up", "--env", "dev", "--file", "volery.yaml")
    assert project.ok("status", "--output", "json").json == project.status()
    assert project.ok("status", "--output=json").json == project.status()
    below = project.folder / "catalog"
    found = project.ok("--file", str(project.folder / "volery.yaml"), "status", "--output", "json")
    assert found.json["app"] == "trial" and below.is_dir()


def test_two_homes_never_meet(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (Project(folder) for folder in folders)
    try:
        for project, version in ((one, "1"), (two, "2")):
            project.service("catalog", version=version)
            project.ok("up")
        assert one.version("catalog") == "1" and two.version("catalog") == "2"
        processes = [project.status()["processes"] for project in (one, two)]
        assert not _pids(processes[0]) & _pids(processes[1])
        one.ok("down")
        assert one.volery("status").code == 7
        assert two.version("catalog") == "2"
        assert two.status()["processes"] == processes[1]
    finally:
        one.close()
        two.close()


def _pids(processes: dict[str, Any]) -> set[int]:
    return {processes["control_plane"], *processes["envoy"], *processes["shims"]}


def test_two_environments_of_one_app_at_once(project: Project) -> None:
    project.manifest["environments"] = {"dev": {"engine": "local"}, "trial": {"engine": "local"}}
    project.service("catalog", scale=2)
    dev_port = project.port
    project.ok("up")
    port = free_port()
    gateway = project.manifest["gateway"] | {"port": port}
    trial_environment = {"engine": "local", "overrides": {"catalog": {"scale": 1}}}
    environments = project.manifest["environments"] | {"trial": trial_environment}
    manifest = project.manifest | {"gateway": gateway, "environments": environments}
    (project.folder / "trial.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    other = ("--file", "trial.yaml", "--env", "trial")
    try:
        project.ok(*other, "up")
        dev = project.status()
        trial = project.ok(*other, "--output", "json", "status").json
        assert (dev["environment"], trial["environment"]) == ("dev", "trial")
        assert dev["gateway"]["url"] == f"http://127.0.0.1:{dev_port}"
        assert trial["gateway"]["url"] == f"http://127.0.0.1:{port}"
        assert dev["services"]["catalog"]["desired"] == 2
        assert trial["services"]["catalog"]["desired"] == 1, "the override"
        assert not _pids(dev["processes"]) & _pids(trial["processes"])
        assert project.version("catalog") == "1"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/catalog/") as answer:
            assert answer.status == 200
        folders = sorted(path.name for path in (project.home / "trial").iterdir())
        assert folders == ["dev", "trial"], "one folder per app and environment"
    finally:
        project.ok(*other, "down")
    assert project.version("catalog") == "1"


def test_ctrl_c_leaves_everything_running(project: Project) -> None:
    go = project.folder.parent / "go"
    health = {"ready": {"command": f"test -e {go}"}, "every": "200ms", "startup": "2m"}
    install(project, "web", HTTP, health=health)
    route(project, "web", "/")
    up = project.start("up")
    until(lambda: project.volery("status", "web").code == 0, "the service is known")
    up.send_signal(signal.SIGINT)
    out, err = up.communicate(timeout=300)
    assert up.returncode == 130 and "Traceback" not in out + err
    go.touch()
    until(lambda: project.status()["services"]["web"]["state"] == "healthy", "it goes on")
    assert project.get("/")[0] == 200


COUNTER = """
import threading, time
def count():
    for number in range(100000):
        print("count", number, flush=True)
        time.sleep(0.02)
threading.Thread(target=count, daemon=True).start()
"""


def test_whoever_follows_goes_on_where_the_control_plane_was_killed(project: Project) -> None:
    project.service("catalog")
    main = project.folder / "catalog" / "server.py"
    main.write_text(COUNTER + main.read_text())
    project.ok("up")
    logs = project.start("logs", "catalog", "-f", "--lines", "1")
    events = project.start("--output", "json", "events", "catalog", "-f", "--limit", "0")
    assert logs.stdout is not None
    try:
        seen = [int(logs.stdout.readline().split()[-1]) for _ in range(10)]
        os.kill(project.status()["processes"]["control_plane"], signal.SIGKILL)
        while seen[-1] < seen[0] + 200:
            seen.append(int(logs.stdout.readline().split()[-1]))
        assert set(range(seen[0], seen[-1])) <= set(seen), "none is lost"
        project.ok("down")
        for watcher in (logs, events):
            out, err = watcher.communicate(timeout=60)
            assert watcher.returncode == 0, err
        assert "instance.gone" in out
    finally:
        for watcher in (logs, events):
            watcher.kill()
            watcher.communicate()


def test_missing_commands_are_told_before_anything_is_built(project: Project) -> None:
    project.service("catalog")
    project.ok("up")
    project.manifest["services"]["catalog"]["run"] = "no-such-bird --sing"
    project.write()
    for command in (("check",), ("plan",), ("deploy", "catalog")):
        result = project.volery(*command)
        assert result.code == 2 and "no-such-bird" in result.err, result.text
    project.manifest["services"]["catalog"]["run"] = f"{sys.executable} no-such-file.py"
    project.write()
    result = project.volery("deploy", "catalog")
    assert result.code in (2, 3), result.text
    assert "no-such-file.py" in result.text
    assert project.version("catalog") == "1"
