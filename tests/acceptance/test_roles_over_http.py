"""Services with roles that speak http and grpc: callers and users reach the primary, the replicas'
address reaches replicas, and no acknowledged write is lost when the primary changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from acceptance.project import Project, until
from acceptance.replicated.bench import Writing, pid, primary, roles, settled
from acceptance.services import install, route

STORE = Path(__file__).with_name("replicated") / "web_store.py"

PLACES = '''
"""gRPC: says who it is. Its role is a file in its volume."""
import os, pathlib, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor

VERSION, ROLE = "{version}", pathlib.Path(os.environ["VOLERY_VOLUME"], "role")
if sys.argv[1:] == ["role"]:
    sys.exit(print(ROLE.read_text(), "1"))
if sys.argv[1:] == ["promote"]:
    sys.exit(ROLE.write_text("primary") and None)
import grpc

ROLE.write_text(os.environ["VOLERY_ROLE"])
me = os.environ["VOLERY_INSTANCE"].encode()
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: me)
service = grpc.method_handlers_generic_handler("trial.Places", {{"Who": handler}})
server = grpc.server(ThreadPoolExecutor(4), handlers=[service])
server.add_insecure_port(os.environ["HOST"] + ":" + os.environ["PORT"])
server.start()
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
told.wait()
server.stop(1).wait()
'''


class Writer(Writing):
    """Adds them through the gateway, each once."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _run(self) -> None:
        number = 0
        while not self._end.is_set():
            number += 1
            try:
                with urllib.request.urlopen(f"{self._url}/add/{number}", b"", timeout=2):
                    self.acknowledged.append(number)
            except OSError:
                time.sleep(0.05)


def addresses(project: Project) -> dict[str, str]:
    """What the caller's environment says."""
    status, body = project.get("/caller/env")
    assert status == 200, body
    found: dict[str, str] = json.loads(body)
    return found


def who(url: str) -> set[str]:
    """Everybody who answers there."""
    return {ask(f"{url}/who")["me"] for _ in range(12)}


def reaches(answering: Callable[[str], set[str]], wanted: dict[str, set[str]]) -> None:
    """Who answers at each address is what it should be, as soon as Envoy has been told."""

    def all_of_them() -> bool:
        try:
            return all(answering(url) == names for url, names in wanted.items())
        except (OSError, grpc.RpcError):
            return False

    until(all_of_them, f"{wanted}")


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def test_an_http_service_with_roles(project: Project) -> None:
    project.service("caller", needs=["store"])
    (project.folder / "store").mkdir()
    shutil.copy(STORE, project.folder / "store" / "main.py")
    run = "python3 -S main.py"
    state = {"volume": "data", "role": f"{run} role", "switchover": f"{run} promote"}
    # On a busy machine a question takes seconds, and nobody but the one that hangs is to be gone.
    state |= {"demote": f"{run} demote", "failover": "6s"}
    project.manifest["services"]["store"] = {
        "source": "./store",
        "run": run,
        "scale": 3,
        "health": {"ready": "/who", "every": "200ms", "timeout": "4s", "startup": "30s"},
        "stop": {"drain": "2s", "grace": "3s"},
        "state": state,
    }
    project.manifest["gateway"]["routes"].append({"path": "/s", "service": "store", "strip": "/s"})
    project.write()
    project.ok("up")
    known = addresses(project)
    assert known["STORE_URL"].startswith("http://")
    users = f"http://127.0.0.1:{project.port}/s"
    reaches(who, {known["STORE_URL"]: {"store-0"}, users: {"store-0"}})
    reaches(who, {known["STORE_REPLICAS_URL"]: {"store-1", "store-2"}})
    with Writer(users) as writer:
        writer.more()
        project.ok("switchover", "store", "--to", "store-1")
        writer.more()
        until(lambda: settled(project), "everything is whole again")
        reaches(who, {known["STORE_URL"]: {"store-1"}, users: {"store-1"}})
        reaches(who, {known["STORE_REPLICAS_URL"]: {"store-0", "store-2"}})
        os.kill(pid(project, "store-1"), signal.SIGSTOP)
        until(lambda: primary(project) != "store-1", "another primary")
        writer.more()
        until(lambda: settled(project), "everything is whole again")
    assert set(writer.acknowledged) <= set(ask(f"{users}/all"))
    assert roles(project)["store-1"] == "replica"


def test_a_grpc_service_with_roles(project: Project) -> None:
    aside = "python3 -S main.py"
    state = {"volume": "data", "role": f"{aside} role", "switchover": f"{aside} promote"}
    state["failover"] = "20s"
    install(project, "store", PLACES, protocol="grpc", scale=2, state=state)
    project.service("caller", needs=["store"])
    route(project, "store", "/trial.Places/")
    project.ok("up")
    known = addresses(project)
    users = f"http://127.0.0.1:{project.port}"
    reaches(called, {known["STORE_URL"]: {"store-0"}, users: {"store-0"}})
    reaches(called, {known["STORE_REPLICAS_URL"]: {"store-1"}})
    project.ok("switchover", "store")
    until(lambda: settled(project, 2), "everything is whole again")
    reaches(called, {known["STORE_URL"]: {"store-1"}, users: {"store-1"}})
    reaches(called, {known["STORE_REPLICAS_URL"]: {"store-0"}})


def called(url: str) -> set[str]:
    """Everybody who answers calls there."""
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        call = channel.unary_unary("/trial.Places/Who")
        return {call(b"", timeout=5).decode() for _ in range(8)}
