"""A throw-away application of a benchmark, and the `volery` command as a user types it.

Its services are the files in `services/`; a new version is another number in a file next to them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.processes import VOLERY, free_port, run
from volery.api.client import Client
from volery.api.home import Home

SERVICES = Path(__file__).parent / "services"
APP = "bench"
ENVIRONMENT = "dev"


def write_service(folder: Path, source: str, version: int) -> None:
    """Put a service's source of this version into a folder."""
    folder.mkdir(exist_ok=True, parents=True)
    shutil.copyfile(SERVICES / f"{source}.py", folder / "main.py")
    (folder / "version").write_text(f"{version}\n")


class Application:
    """A folder with services and a manifest, and a home of its own."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "app"
        self.port = free_port()
        self._root = root
        self._manifest: dict[str, Any] = {
            "app": APP,
            "gateway": {"port": self.port, "routes": []},
            "services": {},
        }

    @property
    def home(self) -> Home:
        """Where Volery keeps what belongs to it."""
        return Home(self._root / "home" / APP / ENVIRONMENT)

    @property
    def client(self) -> Client:
        """Its control plane."""
        return Client(self.home.socket)

    def add(self, name: str, source: str, path: str | None, **block: Any) -> None:
        """Add a service, reached by users at `path`."""
        write_service(self.folder / name, source, 1)
        self._manifest["services"][name] = {
            "source": f"./{name}",
            "run": f"{sys.executable} main.py",
            **block,
        }
        if path is not None:
            self._manifest["gateway"]["routes"].append({"path": path, "service": name})
        manifest = yaml.safe_dump(self._manifest, sort_keys=False)
        (self.folder / "volery.yaml").write_text(manifest)

    def volery(self, *arguments: str) -> str:
        """Type a command; what it prints.

        Raises:
            RuntimeError: it failed.
        """
        return run([*VOLERY, *arguments], self.folder, self.environment)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the command sees."""
        return os.environ | {"VOLERY_HOME": str(self._root / "home"), "NO_COLOR": "1"}

    def status(self) -> dict[str, Any]:
        """The whole environment."""
        return self.client.get("/v1/status")

    def instances(self, service: str) -> list[dict[str, Any]]:
        """The instances of a service."""
        found: list[dict[str, Any]] = self.status()["services"][service]["instances"]
        return found

    def replace_gateway(self) -> None:
        """A new Envoy takes over; returns when the old one has ended."""
        self.client.post("/v1/gateway/restart")


@contextmanager
def application() -> Iterator[Application]:
    """An application that is taken down and removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="volery-bench-"))
    made = Application(root)
    try:
        yield made
    finally:
        if made.home.path.exists():
            made.volery("down")
        shutil.rmtree(root)
