"""The stage of the demo: a copy of birdhouse in a folder and a home of its own, and the command."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volery.api.client import Client
from volery.api.home import Home
from volery.model.errors import VoleryError

CHECKOUT = Path(__file__).parents[3] / "examples" / "birdhouse"
PACKAGED = Path(__file__).parent / "birdhouse"


class Stage:
    """A throw-away birdhouse; `close` takes it down and leaves nothing behind."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.folder = Path(tempfile.mkdtemp(prefix="volery-demo-"))
        self.app = self.folder / "birdhouse"
        shutil.copytree(_sample(), self.app)
        self.port = _free_port()
        manifest = self.app / "volery.yaml"
        manifest.write_text(
            re.sub(r"port: \d+", f"port: {self.port}", manifest.read_text(), count=1)
        )

    @property
    def url(self) -> str:
        """The gateway."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def traffic(self) -> Path:
        """Where the proxies keep what they wrote."""
        return self._home.path / "traffic"

    @property
    def _home(self) -> Home:
        return Home(self.folder / "home" / "birdhouse" / "dev")

    def say(self, text: str = "") -> None:
        """A line for people; on stderr when a script reads stdout."""
        print(text, file=sys.stderr if self._quiet else sys.stdout, flush=True)

    def volery(self, *arguments: str) -> int:
        """Type a command and show what it says."""
        self.say(f"\n$ volery {' '.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "volery", *arguments],
            cwd=self.app,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if self._quiet else None,
            check=False,
        )
        return done.returncode

    def ask(self, path: str, **query: str) -> dict[str, Any]:
        """What the control plane answers to a GET."""
        return Client(self._home.socket).get(path, **query)

    def _environment(self) -> Mapping[str, str]:
        """Birdhouse runs with Volery's own Python, whatever `python` is elsewhere."""
        binaries = str(Path(sys.executable).parent)
        path = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)])
        home = str(self._home.path.parent.parent)
        own = {"VOLERY_HOME": home, "VOLERY_ENV": self._home.path.name, "PATH": path}
        return os.environ | own

    def variant(self, service: str, name: str | None) -> None:
        """Make the next release of a service a bad one, or a good new one."""
        manifest = self.app / "volery.yaml"
        text = manifest.read_text()
        block = re.search(rf"^  {service}:\n(?:    .*\n|\n|  +#.*\n)*", text, re.MULTILINE)
        if block is None:
            raise VoleryError(f"the sample has no service {service}")
        line = f"    env: {{VARIANT: {name}}}\n" if name else ""
        bare = re.sub(r"^    env: \{VARIANT: .*\}\n", "", block[0], flags=re.MULTILINE)
        head, rest = bare.split("\n", 1)
        manifest.write_text(text.replace(block[0], f"{head}\n{line}{rest}"))

    def need(self, name: str, policy: str) -> None:
        """Another policy for the storefront's need of a service."""
        manifest = self.app / "volery.yaml"
        line = re.compile(rf"^      {name}: \{{.*\}}$", re.MULTILINE)
        manifest.write_text(line.sub(f"      {name}: {policy}", manifest.read_text(), count=1))

    def edit(self, service: str) -> None:
        """A harmless change of the source: a new release."""
        folder = self.app / service
        change = folder / "CHANGES"
        count = len(change.read_text().splitlines()) if change.exists() else 0
        with change.open("a") as file:
            file.write(f"change {count + 1}\n")

    def close(self) -> None:
        """Take everything down and remove it."""
        if self.volery("down") == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.say(f"left behind for a look: {self.folder}")


def _sample() -> Path:
    found = next((path for path in (PACKAGED, CHECKOUT) if path.exists()), None)
    if found is None:
        raise VoleryError("the sample application is missing", hint="reinstall volery")
    return found


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
