"""The HTTP API of one environment: a table of endpoints over `Operations`, and two streams.

Errors are the contract's error object with the status of `model.errors.HTTP`. Streams are server-
sent events that end when the client goes or the control plane stops.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from volery import __version__
from volery.api import guarded, wire
from volery.api import told as volumes_told
from volery.api.bodies import (
    ApplyBody,
    ByBody,
    PromoteBody,
    RollbackBody,
    ScaleBody,
    SwitchoverBody,
)
from volery.api.logs import LogLine
from volery.api.past import STORY_CHAPTERS, EventQuery, heard_of, joined, past_pages, told
from volery.api.places import LogQuery
from volery.api.version import code
from volery.control.operations import Operations
from volery.control.operations import Request as Wanted
from volery.decide.comparison import Comparison
from volery.decide.gateway import applied, gateway_changes
from volery.decide.submit import known
from volery.decide.world import World, number_of
from volery.manifest.explain import said
from volery.manifest.promise import promise
from volery.model.application import SteadyState
from volery.model.errors import HTTP, Code, VoleryError
from volery.model.ports import Store
from volery.model.state import Event, Phase, Rollout

CODE = code()
"""What runs here; the files may be replaced meanwhile."""
MAX_BODY_BYTES = 4 * 1024 * 1024
NEWS_SECONDS = 10.0
"""How long somebody who waits for news is kept waiting at most."""


class Plane(Protocol):
    """What the API needs of the control plane around it."""

    @property
    def operations(self) -> Operations:
        """The verbs."""

    @property
    def store(self) -> Store:
        """The ledger."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when streams must end."""

    def processes(self) -> wire.Json:
        """Process ids of ours on this machine."""

    def gateway_ready(self) -> bool:
        """Whether the gateway serves."""

    def check_gateway(self, host: str, port: int) -> None:
        """Raises VoleryError if somebody else listens there."""

    async def replace_gateway(self) -> None:
        """A new gateway takes over from the old one; returns when the old one has ended."""

    async def changed(self, seconds: float) -> None:
        """Return when something was committed, or after this long."""

    def logs(self, service: str, query: LogQuery) -> AsyncIterator[LogLine]:
        """What the instances of a service wrote, secrets masked."""


Parsed = TypeVar("Parsed")
Handler = Callable[[Plane, Request, Any], Awaitable[Response]]


@dataclass(frozen=True)
class Endpoint:
    """One line of the API's table."""

    method: str
    path: str
    summary: str
    handler: Handler
    body: type[BaseModel] | None = None
    stream: bool = False


def create_app(plane: Plane) -> Starlette:
    """The API as an ASGI application."""
    routes = [Route(item.path, _endpoint(plane, item), methods=[item.method]) for item in ENDPOINTS]
    return Starlette(
        routes=routes,
        exception_handlers={VoleryError: _volery_error, HTTPException: _http_error},
    )


def _endpoint(plane: Plane, item: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return await item.handler(plane, request, await _body(request, item.body))

    return serve


async def _body(request: Request, model: type[BaseModel] | None) -> BaseModel | None:
    if model is None:
        return None
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise VoleryError(
                f"the request is larger than {MAX_BODY_BYTES} bytes",
                code=Code.INVALID,
                hint="a manifest that large is too much for one application: split it",
            )
    try:
        return model.model_validate_json(bytes(raw) or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise VoleryError(
            said(first),
            code=Code.INVALID,
            hint="GET /openapi.json says what may be sent",
            where=place,
        ) from None


async def _volery_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, VoleryError)
    return JSONResponse({"error": error.as_json()}, HTTP[error.code])


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = VoleryError(
        f"{request.method} {request.url.path}: {error.detail}",
        code=Code.NOT_FOUND,
        hint="GET /openapi.json says what there is",
    )
    return JSONResponse({"error": body.as_json()}, error.status_code)


# --- looking --------------------------------------------------------------------------------------


async def _version(plane: Plane, _: Request, __: None) -> Response:
    found = {"version": __version__, "code": CODE, "processes": plane.processes()}
    return JSONResponse(found)


async def _status(plane: Plane, request: Request, _: None) -> Response:
    world = plane.operations.world
    if world.environment is None:
        raise VoleryError("nothing was brought up here yet", code=Code.CONFLICT, hint="volery up")

    def look() -> wire.Json:
        return wire.status(plane.operations.world, plane.processes(), plane.gateway_ready())

    return JSONResponse(await _news(plane, request, look))


async def _rollout(plane: Plane, request: Request, _: None) -> Response:
    world = plane.operations.world
    live = request.query_params.get("live") == "true"
    newest = _newest(world, request.path_params["service"], live=live)
    groups = {} if newest.ended else {"groups": wire.groups(world, newest)}
    return JSONResponse(wire.rollout(newest) | groups)


def _newest(world: World, name: str, *, live: bool = False) -> Rollout:
    """The rollout with this id, or a service's newest: one under way before one that has ended."""
    found = [r for r in world.rollouts.values() if name in (r.service, r.id)]
    if not found:
        known(world, name)
    if live:
        serving = {service.live.release for service in world.services.values() if service.live}
        found = [r for r in found if r.phase is Phase.DONE and r.to_release in serving]
    if not found:
        raise VoleryError(
            f"{name} has had no rollout yet", code=Code.CONFLICT, hint=f"volery deploy {name}"
        )
    return max(found, key=lambda item: (not item.ended, number_of(item.id)))


async def _explain(plane: Plane, request: Request, _: None) -> Response:
    """A rollout's decisions again, by its own policy or with another promise."""
    rollout = _newest(plane.operations.world, request.path_params["service"])
    comparison = plane.store.documents("comparison").get(rollout.id)
    if not isinstance(comparison, Comparison):
        raise VoleryError(
            f"nothing was compared in {rollout.id}: it got no requests beside an old release",
            code=Code.CONFLICT,
            hint=f"volery rollout {rollout.id}",
        )
    promise = _promise(request.query_params.get("promise"))
    looks = plane.store.looks(rollout.id)
    found = await asyncio.to_thread(wire.explanation, rollout, comparison, looks, promise)
    return JSONResponse(found)


def _promise(text: str | None) -> SteadyState | None:
    """`errors: < 2%, latency: {p99: < 1s}`, with or without `steady_state:` before it."""
    if text is None:
        return None
    try:
        return promise(text)
    except ValueError as error:
        raise VoleryError(
            f"no promise: {error}",
            code=Code.INVALID,
            hint='such as: --with "errors: < 2%, latency: {p99: < 1s}"',
        ) from None


async def _rollouts(plane: Plane, request: Request, _: None) -> Response:
    """The rollouts asked for, and those that belong together with them (a group's way back)."""
    ids = set(request.query_params.get("ids", "").split(","))

    def look() -> wire.Json:
        there = plane.operations.world.rollouts
        groups = {there[identity].group for identity in ids if identity in there}
        found = [item for item in there.values() if item.id in ids or item.group in groups]
        ordered = sorted(found, key=lambda item: (item.service, number_of(item.id)))
        return {"rollouts": [wire.rollout(item) for item in ordered]}

    return JSONResponse(await _news(plane, request, look))


async def _news(plane: Plane, request: Request, look: Callable[[], wire.Json]) -> wire.Json:
    """What there is to see. With `unless=VERSION` also its version, as soon as it is another one or
    `wait` seconds are over: somebody who waits need not ask again and again."""
    query = request.query_params
    if "unless" not in query:
        return look()
    wait = min(NEWS_SECONDS, _parsed(float, query, "wait")) if "wait" in query else NEWS_SECONDS
    until = time.monotonic() + wait
    while True:
        found = look()
        version = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
        left = until - time.monotonic()
        if version != query["unless"] or left <= 0 or plane.stopping.is_set():
            return found | {"version": version}
        await plane.changed(left)


async def _releases(plane: Plane, request: Request, _: None) -> Response:
    world = plane.operations.world
    return JSONResponse(wire.releases(world, _heard_of(plane, request.path_params["service"])))


async def _why(plane: Plane, request: Request, _: None) -> Response:
    service = _heard_of(plane, request.path_params["service"])
    query = request.query_params
    return JSONResponse(
        told(plane.store, service, _moment(query, "since"), _number(query, "limit", STORY_CHAPTERS))
    )


def _heard_of(plane: Plane, service: str) -> str:
    return heard_of(plane.store, plane.operations.world, service)


async def _plan(plane: Plane, _: Request, body: ApplyBody) -> Response:
    request = _wanted(plane, body)
    steps = await plane.operations.plan(request)
    world = plane.operations.world
    gateway = gateway_changes(world, applied(world, request.application, request.only))
    return JSONResponse({"steps": [wire.step(item) for item in steps], "gateway": list(gateway)})


# --- changing -------------------------------------------------------------------------------------


async def _apply(plane: Plane, _: Request, body: ApplyBody) -> Response:
    request = _wanted(plane, body)
    plane.operations.check(request)
    _check_gateway(plane, request)
    accepted = await plane.operations.apply(request)
    plan = [wire.step(item) for item in accepted.plan]
    return JSONResponse({"plan": plan, "rollouts": list(accepted.rollouts)}, 202)


def _wanted(plane: Plane, body: ApplyBody) -> Wanted:
    """Raises VoleryError INVALID: another environment's, or a manifest that contradicts itself."""
    request, mine = body.request(), plane.operations.world.environment
    name = (request.environment, request.application.app)
    if mine is not None and name != (mine.name, mine.application.app):
        raise VoleryError(
            f"this is the control plane of {mine.name} of {mine.application.app}",
            code=Code.INVALID,
            hint="ask the one of the environment that is meant",
            where="environment",
        )
    return request


def _check_gateway(plane: Plane, wanted: Wanted) -> None:
    """Raises VoleryError naming the place in the manifest that gives the port, and a remedy."""
    gateway = applied(plane.operations.world, wanted.application, wanted.only).gateway
    try:
        plane.check_gateway(gateway.host, gateway.port)
    except VoleryError as error:
        own = f"environments.{wanted.environment}.gateway_port"
        its = wanted.application.environments[wanted.environment].gateway_port is not None
        raise VoleryError(
            error.message,
            code=error.code,
            hint=f"{error.hint}, or for this environment alone: {own}",
            where=own if its else "gateway.port",
        ) from None


async def _rollback(plane: Plane, request: Request, body: RollbackBody) -> Response:
    service = request.path_params["service"]
    rollout, release = plane.operations.rollback(service, body.to, body.by)
    return JSONResponse({"rollouts": [rollout] if rollout else [], "release": release}, 202)


async def _restart(plane: Plane, request: Request, body: ByBody) -> Response:
    return _begun(plane.operations.restart(request.path_params["service"], body.by))


async def _act(plane: Plane, request: Request, body: ByBody) -> Response:
    verb = request.url.path.rpartition("/")[2]
    return _begun(plane.operations.act(request.path_params["service"], verb, body.by))


async def _promote(plane: Plane, request: Request, body: PromoteBody) -> Response:
    service = request.path_params["service"]
    return _begun(plane.operations.act(service, "promote", body.by, full=body.full))


def _begun(rollout: str) -> Response:
    return JSONResponse({"rollouts": [rollout] if rollout else []}, 202)


async def _scale(plane: Plane, request: Request, body: ScaleBody) -> Response:
    service = request.path_params["service"]
    plane.operations.scale(service, body.instances, body.by, force=body.force)
    return JSONResponse({"rollouts": []}, 202)


async def _switchover(plane: Plane, request: Request, body: SwitchoverBody) -> Response:
    number = plane.operations.switchover(request.path_params["service"], body.to, body.by)
    return JSONResponse({"handover": number}, 202)


async def _replace_gateway(plane: Plane, _: Request, __: ByBody) -> Response:
    await plane.replace_gateway()
    return JSONResponse({"rollouts": []}, 202)


async def _down(plane: Plane, _: Request, body: ByBody) -> Response:
    plane.operations.down(body.by)
    return JSONResponse({"gone": plane.operations.gone}, 202)


async def _gone(plane: Plane, _: Request, __: None) -> Response:
    world = plane.operations.world
    up = world.environment is not None and world.environment.running
    left = sorted(world.instances)
    return JSONResponse({"gone": plane.operations.gone, "up": up, "instances": left})


# --- streams --------------------------------------------------------------------------------------


async def _events(plane: Plane, request: Request, _: None) -> Response:
    query = request.query_params
    after = _number(query, "after", 0)
    service = query.get("service") or None
    if service:
        _heard_of(plane, service)
    if query.get("follow") == "true":
        return _stream(wire_events(_follow(plane, after, service)))
    wanted = EventQuery(service, _moment(query, "since"), max(0, _number(query, "limit", 1000)))
    last, pages = plane.store.last_seq(), []
    for page in past_pages(plane.store, wanted, after):
        pages.append(page)
        await asyncio.sleep(0)  # there may be hundreds: others have their turn
    return await asyncio.to_thread(_told_events, joined(pages, wanted), last)


def _told_events(events: Sequence[Event], last: int) -> Response:
    return JSONResponse({"events": [wire.event(item) for item in events], "last": last})


async def _follow(plane: Plane, after: int, service: str | None) -> AsyncIterator[Event]:
    while not plane.stopping.is_set():
        found = plane.store.events(after, 1000, service)
        for item in found:
            after = item.seq
            yield item
        if not found:
            await plane.changed(5.0)


async def wire_events(events: AsyncIterator[Event]) -> AsyncIterator[wire.Json]:
    """The same events as JSON."""
    async for item in events:
        yield wire.event(item)


async def _logs(plane: Plane, request: Request, _: None) -> Response:
    query = request.query_params
    service = _heard_of(plane, request.path_params["service"])
    wanted = LogQuery(
        instance=query.get("instance"),
        since=_moment(query, "since"),
        lines=_count(query, "lines"),
        follow=query.get("follow") == "true",
        previous=query.get("previous") == "true",
    )
    return _stream(_log_lines(plane.logs(service, wanted)))


async def _log_lines(lines: AsyncIterator[LogLine]) -> AsyncIterator[wire.Json]:
    async for line in lines:
        yield wire.log_line(line)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    return _parsed(int, query, name) if name in query else default


def _count(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    count = _parsed(int, query, name)
    if count < 0:
        raise VoleryError(
            f"{name} must be 0 or more, got {count}",
            code=Code.INVALID,
            hint=f"{name}=10, for example",
            where=name,
        )
    return count


def _moment(query: Mapping[str, str], name: str) -> float | None:
    return _parsed(float, query, name) if name in query else None


def _parsed(parse: Callable[[str], Parsed], query: Mapping[str, str], name: str) -> Parsed:
    try:
        return parse(query[name])
    except ValueError:
        raise VoleryError(
            f"{name} must be a number, got {query[name][:40]!r}",
            code=Code.INVALID,
            hint=f"{name}=10, for example",
            where=name,
        ) from None


def _stream(items: AsyncIterator[wire.Json]) -> Response:
    async def encode() -> AsyncIterator[bytes]:
        async for item in items:
            yield b"data: " + json.dumps(item).encode() + b"\n\n"

    return StreamingResponse(encode(), media_type="text/event-stream")


async def _openapi(_: Plane, __: Request, ___: None) -> Response:
    from volery.api.openapi import document

    return JSONResponse(document(ENDPOINTS))


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/v1/version", "Version and processes", _version),
    Endpoint("GET", "/v1/status", "The whole environment at a glance", _status),
    Endpoint("POST", "/v1/plan", "What apply would change", _plan, ApplyBody),
    Endpoint("POST", "/v1/apply", "Bring services to what the manifest says", _apply, ApplyBody),
    Endpoint("GET", "/v1/rollouts", "The rollouts of `ids` and of their groups", _rollouts),
    Endpoint("GET", "/v1/services/{service}/rollout", "The latest rollout, or one by id", _rollout),
    Endpoint("GET", "/v1/services/{service}/rollout/explain", "Its decisions again", _explain),
    Endpoint("GET", "/v1/services/{service}/releases", "Its releases, newest first", _releases),
    Endpoint("GET", "/v1/services/{service}/why", "What happened to it, and why", _why),
    Endpoint("GET", "/v1/services/{service}/logs", "What it wrote", _logs, stream=True),
    Endpoint("POST", "/v1/services/{service}/rollback", "Go back", _rollback, RollbackBody),
    Endpoint("POST", "/v1/services/{service}/restart", "Replace instances", _restart, ByBody),
    Endpoint("POST", "/v1/services/{service}/scale", "Set its size", _scale, ScaleBody),
    Endpoint("POST", "/v1/services/{service}/abort", "Turn its rollout round", _act, ByBody),
    Endpoint("POST", "/v1/services/{service}/pause", "Hold its rollout", _act, ByBody),
    Endpoint("POST", "/v1/services/{service}/resume", "Let its rollout go on", _act, ByBody),
    Endpoint("POST", "/v1/services/{service}/promote", "Let a step pass", _promote, PromoteBody),
    Endpoint("GET", "/v1/guard", "Budget, queue, brakes", guarded.look),
    Endpoint("POST", "/v1/guard/stop", "Stop automation", guarded.stop, guarded.StopBody),
    Endpoint("POST", "/v1/guard/release", "Let it go on", guarded.release, guarded.ReleaseBody),
    Endpoint(
        "POST",
        "/v1/services/{service}/switchover",
        "Make a replica the primary",
        _switchover,
        SwitchoverBody,
    ),
    Endpoint("POST", "/v1/gateway/restart", "Replace the gateway", _replace_gateway, ByBody),
    Endpoint("GET", "/v1/events", "The ledger; follow=true streams", _events, stream=True),
    Endpoint(
        "POST",
        "/v1/volumes",
        "Tell what was done with volumes",
        volumes_told.volumes,
        volumes_told.VolumesBody,
    ),
    Endpoint("POST", "/v1/down", "Stop everything", _down, ByBody),
    Endpoint("GET", "/v1/gone", "Whether everything has stopped", _gone),
    Endpoint("GET", "/openapi.json", "This document", _openapi),
)
"""The whole API; OpenAPI document and tests are made from it."""
