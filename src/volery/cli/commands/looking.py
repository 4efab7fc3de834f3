"""status, rollout, releases, events, logs: what is and what was."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from volery.cli.session import Given, Session, seconds
from volery.model.errors import Code, VoleryError

if TYPE_CHECKING:
    from volery.api.places import LogQuery

LOOK_EVERY_SECONDS = 0.5
OVERLAP_SECONDS = 1.0
"""What was written so long before the last line that was shown may not have been."""
PAST_EVENTS = 1000
TAIL_EVENTS = 10
Follow = Annotated[bool, Parameter(name=["--follow", "-f"], negative=())]
Watch = Annotated[bool, Parameter(name=["--watch", "-w"], negative=())]


def status(service: str | None = None, /, *, watch: Watch = False, session: Given) -> int:
    """The whole environment at a glance, or one service with its instances.

    Args:
        service: Only this one.
        watch: Go on looking.
    """

    def look() -> None:
        found = session.client.get("/v1/status")
        if service is not None and service not in found["services"]:
            from volery.decide.submit import unknown_service

            raise unknown_service(service, found["services"])
        if session.json:
            session.emit(found["services"][service] if service else found)
            return
        from volery.cli.show.tables import show_service, show_status

        if service:
            show_service(service, found)
        else:
            show_status(found)

    return _again_and_again(look, watch, session)


def rollout(
    service: str,
    /,
    *,
    watch: Watch = False,
    explain: Annotated[bool, Parameter(negative=())] = False,
    with_: Annotated[str | None, Parameter(name="--with")] = None,
    session: Given,
) -> int:
    """The running or latest rollout of a service (or a rollout by its id): groups and evidence.

    Args:
        service: The service, or a rollout's id.
        watch: Follow it to its end.
        explain: Replay its decisions from what was measured.
        with_: What another promise would have decided, such as
            "errors: < 2%, latency: {p99: < 1s}".
    """
    path, code = _path(service), 0
    if explain or with_ is not None:
        return _explain(session, path, with_)
    found = session.client.get(path)
    if watch:
        found, code = _watch(session, found)
    if session.json:
        session.emit(found)
    else:
        from volery.cli.show.console import out
        from volery.cli.show.rollout import rollout_view

        out().print(rollout_view(found), soft_wrap=False)
    return code


def _watch(session: Session, found: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Follow a rollout to where nothing can turn it round any more: the last one of its service,
    which may be its group's way back, and the exit code of a `deploy`."""
    from volery.cli.follow import exit_code, follow
    from volery.cli.show.console import moves, out

    whole = not session.json and moves(out())
    ended = _look_on(session, found) if whole else follow(session.client, [found["id"]])
    code = exit_code([item for item in ended if item["id"] == found["id"]]) or exit_code(ended)
    last = [item for item in ended if item["service"] == found["service"]][-1]
    return session.client.get(_path(last["id"])) if whole else last, code


def _look_on(session: Session, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The whole picture of a rollout again and again, until it is over."""
    from rich.live import Live

    from volery.cli.follow import at_end
    from volery.cli.show.console import give_back_cursor, out
    from volery.cli.show.rollout import rollout_view

    give_back_cursor()
    ids = [found["id"]]
    with Live(rollout_view(found), console=out(), transient=True) as live:
        while True:
            group = session.client.get("/v1/rollouts", ids=found["id"])["rollouts"]
            ended = at_end(group, ids, attended=session.attended)
            if ended is not None:
                return ended
            time.sleep(LOOK_EVERY_SECONDS)
            live.update(rollout_view(session.client.get(_path(found["id"]))))


def _path(which: str) -> str:
    """Of a rollout, or of the newest one of a service."""
    return f"/v1/services/{which}/rollout"


def _explain(session: Session, path: str, promise: str | None) -> int:
    found = session.client.get(f"{path}/explain", promise=promise)
    if session.json:
        session.emit(found)
        return 0
    from volery.cli.show.console import out
    from volery.cli.show.rollout import decision_line

    for line in found["policy"]:
        out().print(line, markup=False, highlight=False)
    for decision in found["decisions"]:
        out().print(decision_line(decision), markup=False, highlight=False)
    out().print(found["summary"], markup=False, highlight=False)
    return 0


def _again_and_again(look: Callable[[], None], watch: bool, session: Session) -> int:
    look()
    while watch:
        time.sleep(LOOK_EVERY_SECONDS)
        if not session.json:
            from volery.cli.show.console import moves, out

            if moves(out()):
                out().clear()
            else:
                print()
        look()
    return 0


def releases(service: str, /, *, session: Given) -> int:
    """The releases of a service, newest first; each can be gone back to while it is kept.

    Args:
        service: Which service.
    """
    from volery.cli.show.tables import show_releases

    try:
        found = session.client.get(f"/v1/services/{service}/releases")
    except VoleryError as error:
        found = _of_file(error, lambda offline: offline.offline_releases(session.home, service))
    if session.json:
        session.emit(found)
    else:
        show_releases(found)
    return 0


def events(
    service: str | None = None,
    /,
    *,
    follow: Follow = False,
    since: str | None = None,
    limit: int | None = None,
    why: str | None = None,
    session: Given,
) -> int:
    """What happened and why, oldest first; one JSON object a line with --output json.

    Args:
        service: Only about this one.
        follow: The last few (or those since, or the limit), then what happens from now on.
        since: Only this far back: 10m, 1h.
        limit: At most so many of the past: 1000, or 10 with -f; of a story 20 chapters.
        why: Tell the story of this service instead: what was seen, decided and done, and whether
            it helped.
    """
    from volery.api.past import EventQuery

    if why is not None:
        return _story(session, why, since, limit)
    if limit is None:
        limit = TAIL_EVENTS if follow and since is None else PAST_EVENTS
    moment = _moment(since)
    try:
        found = session.client.get("/v1/events", service=service, limit=limit, since=moment)
    except VoleryError as error:
        if follow:
            raise
        past = EventQuery(service, moment, max(0, limit))
        found = {
            "events": _of_file(error, lambda offline: offline.offline_events(session.home, past))
        }
    for item in found["events"]:
        _show_event(session, item)
    if follow:
        _follow_events(session, service, found["last"])
    return 0


def _follow_events(session: Session, service: str | None, last: int) -> None:
    def ask() -> Iterator[dict[str, Any]]:
        return session.client.stream("/v1/events", after=last, service=service, follow="true")

    for item in _go_on(session, ask):
        last = item["seq"]
        _show_event(session, item)


def _go_on(
    session: Session, ask: Callable[[], Iterator[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """What a stream brings until the environment is stopped; where the control plane is killed and
    comes back, or another version takes its place, it is asked again.

    Raises:
        VoleryError: refused, or it broke off and no control plane came back.
    """
    from volery.api.client import BrokenOff
    from volery.api.launch import comes_back

    begun, broken = False, None
    while True:
        try:
            yield from ask()
            broken = None
        except BrokenOff as error:
            broken = error
        except VoleryError as error:
            if not begun or error.code is not Code.NO_CONTROL_PLANE:
                raise
        begun = True
        time.sleep(LOOK_EVERY_SECONDS)  # another version needs a moment to take its place
        if not comes_back(session.home):
            if broken:
                raise broken
            return


def _story(session: Session, service: str, since: str | None, limit: int | None) -> int:
    from volery.api.past import STORY_CHAPTERS

    moment, count = _moment(since), STORY_CHAPTERS if limit is None else max(0, limit)
    path = f"/v1/services/{service}/why"
    try:
        found = session.client.get(path, since=moment, limit=count)
    except VoleryError as error:
        found = _of_file(
            error, lambda offline: offline.offline_story(session.home, service, moment, count)
        )
    if session.json:
        session.emit(found)
        return 0
    from volery.cli.show.story import show_story

    show_story(found)
    return 0


def _of_file(error: VoleryError, look: Callable[[ModuleType], Any]) -> Any:
    """What the files have where no control plane runs; any other error, and where they have
    nothing, is the error."""
    from volery.api import offline

    found = look(offline) if error.code is Code.NO_CONTROL_PLANE else None
    if found is None:
        raise error
    print("no control plane runs here; this is what the files have", file=sys.stderr)
    return found


def _moment(since: str | None) -> float | None:
    """So long ago, in Unix seconds."""
    back = seconds("--since", since)
    return None if back is None else datetime.now(UTC).timestamp() - back


def _show_event(session: Session, item: dict[str, Any]) -> None:
    if session.json:
        print(json.dumps(item), flush=True)
        return
    from volery.cli.show.console import out
    from volery.cli.show.tables import event_line

    out().print(event_line(item))


def logs(
    service: str,
    /,
    *,
    follow: Follow = False,
    since: str | None = None,
    previous: Annotated[bool, Parameter(name=["--previous", "-p"], negative=())] = False,
    lines: int | None = None,
    instance: str | None = None,
    timestamps: Annotated[bool, Parameter(name=["--timestamps", "-t"], negative=())] = False,
    session: Given,
) -> int:
    """What the instances of a service wrote, secrets masked; also where no control plane runs.

    Those that are there, and those that crashed lately; where none is there, those of the release
    that was there last.

    Args:
        service: Whose.
        follow: Go on with what is written from now on. Where the control plane is started again a
            few lines may come twice.
        since: Only this far back: 10m, 1h; also of instances that are gone by now.
        previous: Only of instances that are gone, as long as their logs are kept.
        lines: Only the last so many of each instance; with --follow 0 shows only what comes now.
        instance: Only this one.
        timestamps: When each line was written, exact to a quarter of a second; right after a
            silence to a second.
    """
    from volery.api.places import LogQuery

    if lines is not None and lines < 0:
        raise VoleryError(
            f"--lines must be 0 or more, got {lines}", code=Code.INVALID, hint="--lines 10"
        )
    query = LogQuery(instance, _moment(since), lines, follow and not previous, previous)
    show = partial(_show_line, session, timestamps)
    try:
        for item in _logged(session, service, query):
            show(item)
    except VoleryError as error:
        if error.code is not Code.NO_CONTROL_PLANE or not _from_files(
            session, service, query, show
        ):
            raise
    return 0


def _logged(session: Session, service: str, query: LogQuery) -> Iterator[dict[str, Any]]:
    """With `follow` no line is lost where the control plane comes back, but a few come twice."""
    began, wanted = time.time(), query
    shown: dict[str, float] = {}

    def ask() -> Iterator[dict[str, Any]]:
        nonlocal wanted
        before = dict(shown)
        try:
            for item in _log_stream(session, service, wanted):
                name, at = item["instance"], datetime.fromisoformat(item["at"]).timestamp()
                shown[name] = min(at, time.time())  # it may have been set back since
                if at >= before.get(name, at) - OVERLAP_SECONDS:
                    yield item
        finally:
            wanted = _not_shown(query, shown, began)

    return _go_on(session, ask) if query.follow else ask()


def _not_shown(query: LogQuery, shown: dict[str, float], began: float) -> LogQuery:
    """What is left of it: what was sent may be far behind what is written, and one instance behind
    the others."""
    if query.lines == 0:
        since = max(began, min(shown.values(), default=began) - OVERLAP_SECONDS)
    elif shown:
        since = min(shown.values()) - OVERLAP_SECONDS
    else:
        return query
    return replace(query, since=since, lines=None)


def _log_stream(session: Session, service: str, query: LogQuery) -> Iterator[dict[str, Any]]:
    return session.client.stream(
        f"/v1/services/{service}/logs",
        follow="true" if query.follow else None,
        previous="true" if query.previous else None,
        since=query.since,
        lines=query.lines,
        instance=query.instance,
    )


def _from_files(
    session: Session, service: str, query: LogQuery, show: Callable[[dict[str, Any]], None]
) -> bool:
    """Whether there was something to show without a control plane."""
    import asyncio

    from volery.api import wire
    from volery.api.offline import offline_logs

    found = offline_logs(session.home, service, query)
    if found is None:
        return False
    print("no control plane runs here; this is what the files have", file=sys.stderr)

    async def go_on() -> None:
        async for line in found.follow(asyncio.Event()):
            show(wire.log_line(line))

    if query.follow:
        asyncio.run(go_on())
    for line in () if query.follow else found.past():
        show(wire.log_line(line))
    return True


def _show_line(session: Session, timestamps: bool, item: dict[str, Any]) -> None:
    if session.json:
        print(json.dumps(item), flush=True)
        return
    at = f"{item['at']}  " if timestamps else ""
    crashed = " (crashed)" if item["crashed"] else ""
    print(f"{at}{item['instance']}{crashed} | {item['text']}", flush=True)
