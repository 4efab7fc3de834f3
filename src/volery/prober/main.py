"""The prober for a command line: text in, a report out. Ctrl-C ends it early, with its report."""

from __future__ import annotations

import asyncio
import signal
from urllib.parse import urlsplit

from volery.model.errors import Code, VoleryError
from volery.model.units import parse_duration
from volery.prober.plan import Kind, ProbePlan, Stream
from volery.prober.report import ProbeReport
from volery.prober.run import probe


def parse_and_probe(
    url: str,
    *,
    kinds: str = "http1",
    rate: float = 50.0,
    duration: str = "10s",
    allow_remote: bool = False,
) -> ProbeReport:
    """Probe one URL.

    Args:
        url: where to; for gRPC its path is the method, such as /birds.Ratings/Get.
        kinds: what to send, such as `http1,http2,websocket`; see `Kind`.
        rate: requests a second, for each kind.
        duration: how long, such as 10s or 2m.
        allow_remote: also probe a target that is not this machine.

    Raises:
        VoleryError: an argument is wrong, or the target is not allowed.
    """
    streams = tuple(Stream(kind, _url(kind, url), rate) for kind in _kinds(kinds))
    plan = ProbePlan(streams, _seconds(duration), allow_remote=allow_remote)
    return asyncio.run(_until_interrupted(plan.checked()))


def _kinds(text: str) -> tuple[Kind, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [kind.value for kind in Kind]
    for name in names:
        if name not in known:
            raise VoleryError(
                f"no kind of request is called {name!r}",
                code=Code.INVALID,
                hint=f"kinds: {', '.join(known)}",
                where="probe",
            )
    return tuple(Kind(name) for name in names)


def _url(kind: Kind, url: str) -> str:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise VoleryError(
            f"{url!r} is no address: {error}",
            code=Code.INVALID,
            hint="such as http://127.0.0.1:8080/path",
            where="probe",
        ) from None
    if kind is Kind.LINE and parts.scheme == "http":
        return parts._replace(scheme="tcp").geturl()
    return parts.geturl()


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise VoleryError(
            f"duration {error}", code=Code.INVALID, hint="--duration 10s", where="probe"
        ) from None


async def _until_interrupted(plan: ProbePlan) -> ProbeReport:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, stop.set)
    except RuntimeError:
        return await probe(plan)  # not the main thread: signals are somebody else's
    try:
        return await probe(plan, stop)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
