"""Notes how processes ended, each end once, also those that happened while no control plane was
there: an event for each, with when it was and how, as far as its shim still knows.

What ended just now comes back as ailments for healing; what is long over was mended by its shim
then. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import replace

from volery.control.draft import Draft
from volery.model import moment
from volery.model.healing import Ailment
from volery.model.ports import Exit, Observation
from volery.model.state import Instance
from volery.model.units import format_duration

RECENT_SECONDS = 60.0
"""An end that is longer ago is told, but needs no healing any more."""


def note_exits(draft: Draft) -> dict[str, list[Ailment]]:
    """Tell of each restart since the last look; returns by service who ended just now."""
    found: dict[str, list[Ailment]] = {}
    for item in list(draft.world.instances.values()):
        seen = draft.world.observed.get(item.id)
        if seen is None or seen.restarts <= item.restarts:
            continue
        draft.put("instance", item.id, replace(item, restarts=seen.restarts))
        _tell(draft, item, seen)
        if _is_recent(draft, seen.exit) and item.intent == "run" and item.proven:
            ailment = Ailment(item.id, "exited", str(seen.exit), {"restarts": seen.restarts})
            found.setdefault(item.service, []).append(ailment)
    return found


def _is_recent(draft: Draft, ended: Exit | None) -> bool:
    return ended is not None and draft.now - ended.at <= RECENT_SECONDS


def _tell(draft: Draft, item: Instance, seen: Observation) -> None:
    new = seen.restarts - item.restarts
    known = (seen.exits or ((seen.exit,) if seen.exit else ()))[-new:]
    if len(known) < new:
        text = f"{item.id} ended {new - len(known)} more times before, and was restarted"
        _event(draft, item, text, "unknown", {"restarts": new - len(known)})
    for number, ended in enumerate(known, seen.restarts - len(known) + 1):
        ago = draft.now - ended.at
        when = f" {format_duration(round(ago))} ago" if ended.at and ago > RECENT_SECONDS else ""
        data: dict[str, object] = {"restarts": number}
        if ended.at:
            data["ended_at"] = moment.time(ended.at)
        text = f"{item.id} ended{when} ({ended}) and was restarted"
        _event(draft, item, text, str(ended), data)


def _event(draft: Draft, item: Instance, text: str, cause: str, data: dict[str, object]) -> None:
    draft.event(
        "instance.restarted",
        text,
        service=item.service,
        release=item.release,
        instance=item.id,
        cause=cause,
        data=data,
    )
