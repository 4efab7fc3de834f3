"""demo, doctor, probe, version, completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from volery.cli.session import Given, Session
from volery.model.errors import Code, VoleryError

if TYPE_CHECKING:
    from volery.cli.checkup import Check


def version(*, session: Given) -> int:
    """The version of Volery."""
    from volery import __version__

    if session.json:
        session.emit({"version": __version__})
    else:
        print(f"volery {__version__}")
    return 0


def demo(*, keep: Annotated[bool, Parameter(negative=())] = False, session: Given) -> int:
    """A guided tour on a sample application: deploys good and bad, and counts every request.

    Args:
        keep: Leave the application running at the end.
    """
    from volery.demo.tour import run_tour

    report = run_tour(keep=keep, quiet=session.json)
    if session.json:
        session.emit(report.as_json())
    return 0 if report.good else 1


def doctor(*, session: Given) -> int:
    """Check this machine: engines, Envoy, ports, state, manifest; say how to mend what is wrong."""
    from volery.api.home import root
    from volery.cli import checkup

    checks: list[Callable[[], Iterable[checkup.Check]]] = [
        checkup.machine,
        checkup.envoy,
        checkup.local_engine,
        checkup.other_engines,
        partial(checkup.state, root()),
        partial(_of_manifest, session),
    ]
    found = checkup.examine(checks)
    if session.json:
        session.emit({"checks": [vars(item) for item in found]})
    else:
        _show(found)
    return 1 if any(item.verdict == "failed" for item in found) else 0


def _of_manifest(session: Session) -> list[Check]:
    from volery.api.launch import is_running
    from volery.cli.checkup import Check, port

    try:
        application = session.application.in_environment(session.environment)
    except VoleryError as error:
        first = str(next(iter(getattr(error, "mistakes", [])), error.message))
        missing = session.file is None and not hasattr(error, "mistakes")
        return [
            Check("manifest", "volery.yaml", "warning" if missing else "failed", first, error.hint)
        ]
    gateway = application.gateway
    manifest = Check("manifest", str(session.path), "ok", f"{len(application.services)} services")
    try:
        ours = is_running(session.home)
    except VoleryError as error:
        return [manifest, Check("state", session.environment, "failed", error.message, error.hint)]
    control = "runs" if ours else "does not run"
    return [
        manifest,
        Check("control plane", session.environment, "ok", control),
        port(gateway.host, gateway.port, ours, session.environment),
    ]


def _show(found: list[Check]) -> None:
    from rich.markup import escape

    from volery.cli.show.console import out

    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    for item in found:
        mark = f"[{colours[item.verdict]}]{item.verdict:8}[/]"
        out().print(f"{mark} {escape(f'{item.category}: {item.name}: {item.seen}')}")
        if item.remedy:
            out().print(f"         hint: {escape(item.remedy)}")


def probe(
    url: str | None = None,
    /,
    *,
    kinds: str = "http1,http1-fresh",
    rate: float = 50.0,
    duration: str = "10s",
    session: Given,
) -> int:
    """Send open-loop load and count every request that fails, with its cause; 1 if any did.

    Args:
        url: Where to; by default the gateway. Only this machine.
        kinds: http1, http1-fresh, http2, grpc, grpc-stream, grpc-bidi, websocket, upload,
            download, line.
        rate: Requests a second of each kind; of all at most 10000.
        duration: How long; at most 1h.
    """
    from volery.prober.main import parse_and_probe

    target = url or session.client.get("/v1/status")["gateway"]["url"]
    report = parse_and_probe(target, kinds=kinds, rate=rate, duration=duration)
    if session.json:
        session.emit(report.as_json())
    else:
        print(report.render())
    return 1 if report.lost else 0


def completion(shell: Literal["bash", "zsh", "fish"], /, *, session: Given) -> int:
    """Print a completion script: `eval "$(volery completion bash)"`.

    Args:
        shell: For which shell.
    """
    from volery.cli.commandline import build_app

    try:
        script = build_app().generate_completion(shell=shell)
    except ValueError as error:
        raise VoleryError(str(error), code=Code.INVALID, hint="bash, zsh or fish") from None
    session.emit({"script": script}) if session.json else print(script)
    return 0
