"""Starting, finding and stopping the control plane of an environment, which has a shim too.

The shim starts it again whenever it ends, so that `kill -9` of it costs a moment. `tree=False`: the
shims of instances and Envoy are its descendants for a while and must outlive it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from volery.api.client import Client
from volery.api.home import Home
from volery.api.version import code
from volery.manifest.inherited import INHERITED
from volery.model.errors import Code, VoleryError
from volery.supervise.process import Backoff, Spec, Supervised, Wish

PASSED_ON = (*INHERITED, "VOLERY_ENVOY", "VOLERY_HOME")
START_SECONDS = 60.0
CHANGE_SECONDS = 2.0
"""For so long nobody may be there where one version takes the place of another."""
RESTARTS = 3
STOP_SECONDS = 60.0


def is_supervised(home: Home) -> bool:
    """Whether a shim looks after a control plane here, so that it runs or will in a moment."""
    return Supervised(home.control).looked_after()


def is_in_use(home: Home) -> bool:
    """Whether anything of this environment runs, even if its control plane and shim were killed."""
    envoys = (home.path / "traffic" / "envoy").glob("*")
    return has_instances(home) or any(map(_runs, [home.control, *envoys]))


def has_instances(home: Home) -> bool:
    """Whether any instance runs, with or without a control plane."""
    return any(map(_runs, (home.path / "instances").glob("*")))


def _runs(folder: Path) -> bool:
    place = Supervised(folder)
    status = place.status()
    child = status.child if status else None
    return place.looked_after() or (child is not None and child.alive())


def is_running(home: Home) -> bool:
    """Whether a control plane answers here, or is being restarted by its shim."""
    return is_supervised(home) and _answers(Client(home.socket, patient=True)) is not None


def comes_back(home: Home) -> bool:
    """Whether a control plane answers here, now or once its shim has started it again."""
    held_at = time.monotonic()
    deadline = held_at + START_SECONDS
    while time.monotonic() < min(deadline, held_at + CHANGE_SECONDS):
        if is_supervised(home):
            held_at = time.monotonic()
            if _answers(Client(home.socket)) is not None:
                return True
        time.sleep(0.05)
    return False


def ensure_control_plane(home: Home) -> bool:
    """Start a control plane unless there is one; replace one of another version. True if started.

    Raises:
        VoleryError: it cannot be started, with the last thing it said.
    """
    home.create()
    running = _answers(Client(home.socket)) if is_supervised(home) else None
    if running is not None and running != code():
        stop_control_plane(home)
    started = not is_supervised(home)
    if started:
        launch(home)
    before = _restarts(home)
    deadline, again = time.monotonic() + START_SECONDS, True
    while _answers(Client(home.socket)) is None:
        if again and not is_supervised(home):  # what was there has just been stopped by another
            launch(home)
            started, again, before = True, False, 0
        if time.monotonic() > deadline or not is_supervised(home):
            raise VoleryError(
                f"the control plane does not start: {_last_words(home)}",
                hint=f"its log: {home.control / 'log'}",
            )
        _give_up_on_refusal(home, before)
        time.sleep(0.02)
    return started


def launch(home: Home) -> None:
    """Start a shim that starts a control plane and keeps it."""
    environment: Mapping[str, str] = {
        key: os.environ[key] for key in PASSED_ON if key in os.environ
    }
    spec = Spec(
        argv=(sys.executable, "-m", "volery.api.daemon", str(home.path)),
        cwd=str(home.path),
        tree=False,
        grace=20.0,
        backoff=Backoff(first=0.1, cap=5.0, healthy=5.0),
    )
    try:
        Supervised(home.control).launch(spec, environment, restart=True)
    except VoleryError as error:
        if error.code is not Code.CONFLICT:
            raise  # CONFLICT: another `up` was quicker; its control plane will do


def _restarts(home: Home) -> int:
    status = Supervised(home.control).status()
    return status.restarts if status else 0


def _give_up_on_refusal(home: Home, before: int) -> None:
    """A control plane that ended by itself several times since we look says why in its log."""
    if _restarts(home) - before >= RESTARTS:
        words = _last_words(home)
        stop_control_plane(home)
        raise VoleryError(
            f"the control plane does not start: {words}", hint=f"its log: {home.control / 'log'}"
        )


def stop_control_plane(home: Home) -> None:
    """End the control plane; instances and Envoy go on.

    Raises:
        VoleryError: it does not end.
    """
    place = Supervised(home.control)
    if place.looked_after():
        place.wish(Wish(stop=True))
    deadline = time.monotonic() + STOP_SECONDS
    while place.looked_after() or _end_orphan(home):
        if time.monotonic() > deadline:
            raise VoleryError("the control plane does not end", hint=f"see {home.control / 'log'}")
        time.sleep(0.02)


def _end_orphan(home: Home) -> bool:
    """End a control plane whose shim was killed; false if there is none."""
    try:
        found = Client(home.socket).get("/v1/version")
    except VoleryError:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(found["processes"]["control_plane"], signal.SIGTERM)
    return True


def _answers(client: Client) -> str | None:
    """Which code the control plane that answers has, "" where it does not say; None: none does."""
    try:
        return str(client.get("/v1/version").get("code", ""))
    except VoleryError:
        return None


def _last_words(home: Home) -> str:
    import json

    try:
        lines = (home.control / "log").read_text(errors="replace").splitlines()
    except OSError:
        return "it said nothing"
    for line in reversed(lines):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and "error" in said:
            return f"{said['error']}"
    return lines[-1] if lines else "it said nothing"
