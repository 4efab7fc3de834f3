"""Deeds on whole volumes, which the command line does itself, told to the ledger.

Through the control plane where one runs, as only one process writes there; else into the file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from volery.api.bodies import ByBody
from volery.api.home import Home
from volery.control.draft import Draft
from volery.control.volumes import Deed, note_deeds
from volery.model.names import NAME
from volery.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from volery.api.app import Plane

Moment = Annotated[float, Field(ge=0, le=253_402_300_799)]
"""Unix seconds, until the end of the year 9999."""
VolumeName = Annotated[str, Field(max_length=200, pattern=NAME.removesuffix("$") + "/[^/]+$")]


class VolumesBody(ByBody):
    """What was done with which volumes."""

    deed: Deed
    volumes: Annotated[dict[VolumeName, Moment | None], Field(max_length=10_000)]
    """Until when each can be restored (Unix seconds), by name."""


async def volumes(plane: Plane, _: Request, body: VolumesBody) -> Response:
    """Write it down."""
    plane.operations.tell_of_volumes(body.deed, body.volumes, body.by)
    return JSONResponse({"told": len(body.volumes)}, 202)


def tell_the_file(
    home: Home, deed: Deed, names: Mapping[str, float | None], by: str, *, whole: bool = True
) -> None:
    """Write it down where no control plane runs; nothing where there is no ledger either. `whole`
    as in `control.volumes.note_deeds`.

    Raises:
        VoleryError: the ledger cannot be written.
    """
    if home.ledger.exists():
        with SqliteStore(home.ledger) as store:
            draft = Draft(store, time.time())
            note_deeds(draft, deed, names, by, whole=whole)
            draft.commit()
