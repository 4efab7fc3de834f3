"""A recipe of `examples/` with a primary and replicas, run by Volery as a user runs it, and ways to
hurt it.

Everything is in a folder of its own. Only processes of this cluster are ever signalled.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.processes import VOLERY, free_port, run, until
from volery.supervise.identity import environment_of

EXAMPLES = Path(__file__).parent.parent / "examples"
CALLER = "shop"
CALLER_BLOCK = """
  shop:                             # only there to have an edge, as any caller has
    run: sleep infinity
    needs: [{service}]
    health: {{ready: {{command: "true"}}}}

environments:"""
UP_SECONDS = 180.0
Json = dict[str, Any]


def installed(package: str, found: Callable[[], bool]) -> bool:
    """Whether something is there. As root on Debian what is missing is installed."""
    if not found() and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", package]):
            subprocess.run(["apt-get", *command], env=quiet, check=False, capture_output=True)
    return found()


@dataclass(frozen=True)
class Recipe:
    """Which one, and the names in it."""

    folder: str
    app: str
    service: str
    configuration: str
    """The file that every instance is configured by."""


class Cluster:
    """One cluster of a recipe under Volery."""

    recipe: Recipe

    def __init__(self, root: Path) -> None:
        self.folder = root / "app"
        self.home = root / "home"
        shutil.copytree(EXAMPLES / self.recipe.folder, self.folder)
        self.edit("dev: {engine: local}", f"dev: {{engine: local, gateway_port: {free_port()}}}")
        self.edit("\nenvironments:", CALLER_BLOCK.format(service=self.recipe.service))

    def volery(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Type a command; what it prints.

        Raises:
            RuntimeError: it failed.
        """
        environment = os.environ | {"VOLERY_HOME": str(self.home), "NO_COLOR": "1"}
        return run([*VOLERY, *arguments], self.folder, environment, seconds)

    def configure(self, line: str) -> None:
        """Another line in the configuration of every instance."""
        with (self.folder / self.recipe.configuration).open("a") as file:
            file.write(f"{line}\n")

    def edit(self, old: str, new: str) -> None:
        """Change the manifest."""
        manifest = self.folder / "volery.yaml"
        text = manifest.read_text()
        if old not in text:
            raise ValueError(f"the recipe does not say {old!r}")
        manifest.write_text(text.replace(old, new))

    # --- what is there ----------------------------------------------------------------------------

    def status(self) -> Json:
        """The service as `volery status` tells it."""
        found: Json = self._services()[self.recipe.service]
        return found

    def _services(self) -> Json:
        found: Json = json.loads(self.volery("--output", "json", "status"))["services"]
        return found

    @property
    def primary(self) -> str:
        """Who Volery says is the primary."""
        return str(self.status()["primary"]["instance"])

    @property
    def port(self) -> int:
        """Where a caller reaches the primary."""
        caller = self._services()[CALLER]["instances"][0]
        name = self.recipe.service.replace("-", "_").upper()
        environment = environment_of(caller["pid"]) or {}
        return int(environment[f"{name}_URL"].rpartition(":")[2])

    def whole(self, size: int = 3) -> bool:
        """Whether there is one primary, and all others are replicas in sync."""
        found = self.status()
        roles = sorted(str(item["role"]) for item in found["instances"] if item["state"] == "ready")
        change = found["primary"]["changing"] or found["rollout"]
        return not change and roles == ["primary", *["replica"] * (size - 1)]

    def rest(self, size: int = 3) -> None:
        """Wait until it is whole."""
        until(lambda: self.whole(size), f"{size} in sync", UP_SECONDS, pause=0.2)

    # --- ways to hurt it --------------------------------------------------------------------------

    def kill(self, instance: str) -> None:
        """`kill -9` of the server: its shim starts it again."""
        os.kill(self.server(instance), signal.SIGKILL)

    def destroy(self, instance: str) -> None:
        """`kill -9` of everything of an instance, its shim first: nobody starts it again."""
        process = self._pid(instance)
        shim = psutil.Process(process).parent()
        assert shim is not None
        for pid in (shim.pid, self.server(instance), process):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self, instance: str, frozen: bool) -> None:
        """Stop (or continue) every process of an instance: it answers nobody, as if cut off."""
        sent = signal.SIGSTOP if frozen else signal.SIGCONT
        for process in self._tree(instance):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sent)

    def empty(self, instance: str) -> None:
        """Its volume is emptied under it, and its server killed."""
        pid = self.server(instance)
        shutil.rmtree(self.volume(instance) / "data")
        os.kill(pid, signal.SIGKILL)

    def volume(self, instance: str) -> Path:
        """Its volume."""
        number = instance.rpartition("-")[2]
        of_environment = self.home / self.recipe.app / "dev"
        return of_environment / "volumes" / self.recipe.service / f"data-{number}"

    def server(self, instance: str) -> int:
        """The process that serves: the one that Volery started, if it does not start others."""
        return self._pid(instance)

    def _pid(self, instance: str) -> int:
        found = {item["id"]: item["pid"] for item in self.status()["instances"]}
        return int(found[instance])

    def _tree(self, instance: str) -> Sequence[psutil.Process]:
        process = psutil.Process(self._pid(instance))
        return [process, *process.children(recursive=True)]


Made = TypeVar("Made", bound=Cluster)


@contextmanager
def running(made: Made) -> Iterator[Made]:
    """It is up while the block lasts."""
    try:
        made.volery("up")
        yield made
    finally:
        made.volery("--yes", "down", "--volumes")
