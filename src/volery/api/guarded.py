"""The guard's part of the API: looking at it, stopping automation by hand, letting it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from volery.api import wire_guard
from volery.api.bodies import ByBody
from volery.model.fields import Name
from volery.model.guard import EVERYTHING, LONGEST_SECONDS

if TYPE_CHECKING:
    from volery.api.app import Plane


class ReleaseBody(ByBody):
    """Whose brake."""

    service: Name | None = None
    """Which service; every brake there is if not said."""


class StopBody(ReleaseBody):
    """Whose automation, and for how long."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)] | None = None
    """After this time it goes on by itself; the environment's `guard.brake.hold` if not said."""


async def look(plane: Plane, _: Request, __: None) -> Response:
    """Budget, who is disturbed, the queue, brakes."""
    return JSONResponse(wire_guard.guard(plane.operations.world))


async def release(plane: Plane, _: Request, body: ReleaseBody) -> Response:
    """Let automation go on."""
    gone = plane.operations.release(body.service or EVERYTHING, body.by)
    return JSONResponse({"released": [wire_guard.brake(item) for item in gone]})


async def stop(plane: Plane, _: Request, body: StopBody) -> Response:
    """Stop automation by hand."""
    scope = body.service or EVERYTHING
    return JSONResponse(
        wire_guard.brake(plane.operations.stop_automation(scope, body.seconds, body.by))
    )
