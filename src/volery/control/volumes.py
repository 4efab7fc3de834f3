"""Tells what becomes of volumes: one that began empty, one that is in trouble, and that it is over.
Each is told once, also over restarts of the control plane: the instance's document says what was
told. And who deleted, restored or destroyed which, and what that means to a primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from volery.control.draft import Draft
from volery.decide.stateful import without_data
from volery.model import moment
from volery.model.ports import Observation
from volery.model.state import Event, Instance

Deed = Literal["deleted", "restored", "purged", "expired"]
"""What is done with whole volumes; *expired* is purged because its time was over."""

KEPT = "it is not replaced for that, as another one would get the same volume"


def note_volumes(draft: Draft) -> None:
    """An event for each change since the last look."""
    for item in list(draft.world.instances.values()):
        seen = draft.world.observed.get(item.id)
        if seen is None or (seen.volume, seen.volume_made) == (item.volume, item.volume_made):
            continue
        changed = replace(item, volume=seen.volume, volume_made=seen.volume_made)
        draft.put("instance", item.id, changed)
        if seen.volume_made and not item.volume_made:
            _event(draft, item, "volume.made", "begins with a new, empty volume", "there was none")
        if seen.volume != item.volume:
            _tell_of_trouble(draft, item, seen)


def _tell_of_trouble(draft: Draft, item: Instance, seen: Observation) -> None:
    if not seen.volume:
        _event(draft, item, "volume.well", "can write its volume again", item.volume)
        return
    ends = "a replica takes over where one can" if draft.world.has_roles(item) else KEPT
    text = f"cannot write its volume: it {seen.volume}; {ends}"
    _event(draft, item, "volume.trouble", text, f"its volume {seen.volume}")


def _event(draft: Draft, item: Instance, kind: str, text: str, cause: str) -> None:
    draft.event(
        kind,
        f"{item.id} {text}",
        service=item.service,
        release=item.release,
        instance=item.id,
        cause=cause,
        data={"alert": True} if kind == "volume.trouble" else {},
    )


def note_deeds(
    draft: Draft, deed: Deed, volumes: Mapping[str, float | None], by: str, *, whole: bool = True
) -> None:
    """An event for each volume, by its exact name (`orders-db/data-0@1764010000`), with the Unix
    second until which it can be restored, if it can. All are deleted at once: whoever is the
    primary of something may begin without data then, and no more once any of it is back. Not so
    where one could not be deleted, and it was not the `whole`."""
    for name, until in sorted(volumes.items()):
        draft.add(_deed(deed, name, until, by, draft.now))
    services = {name.partition("/")[0] for name in volumes}
    for name, tenure in draft.world.tenures.items():
        if deed == "deleted" and whole:
            draft.put("tenure", name, without_data(tenure))
        elif deed == "restored" and name in services:
            draft.put("tenure", name, replace(tenure, emptied=False))


def _deed(deed: Deed, name: str, until: float | None, by: str, now: float) -> Event:
    cause = f"asked for by {by or 'a person'}" if deed != "expired" else "its time was over"
    end = moment.time(until) if until and until > now else None
    text = {
        "deleted": f"volume {name} is deleted, {f'until {end} it' if end else 'nothing'}"
        " can be restored",
        "restored": f"volume {name} is back",
        "purged": f"volume {name} is destroyed for good",
        "expired": f"volume {name} is destroyed for good",
    }[deed]
    return Event(
        at=now,
        kind=f"volume.{deed}",
        text=f"{text}: {cause}",
        service=name.partition("/")[0],
        cause=cause,
        data={"volume": name, "until": end},
    )
