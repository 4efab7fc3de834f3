"""Bounds what is kept: releases to go back to, their artifacts, the records of ended rollouts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import groupby, islice
from typing import Protocol

from volery.control.controller import Controller
from volery.control.draft import Draft
from volery.decide.world import number_of
from volery.model.state import Phase, Release, Rollout

KEPT_RELEASES = 10
KEPT_WAYS_BACK = 3
KEPT_ROLLOUTS = 50


class Pruner(Protocol):
    """Deletes artifacts."""

    def prune(self, keep: Mapping[str, Collection[str]]) -> None:
        """Delete the artifacts of each service that are not in `keep`."""


def housekeeping(controller: Controller, artifacts: Pruner) -> None:
    """Forget what is too old to go back to; never what is live, warm or on its way."""
    draft = controller.draft()
    needed = _needed(draft)
    for item in _too_old(draft.world.releases.values(), needed):
        draft.put("release", item.id, replace(item, state="gone"))
    for rollout in _ended_long_ago(draft.world.rollouts.values()):
        draft.drop("rollout", rollout.id)
        draft.drop("comparison", rollout.id)
    for release in _forgotten(draft.world.releases.values(), draft.world.rollouts.values()):
        draft.drop("release", release)
    draft.commit()
    keep: dict[str, set[str]] = {}
    for item in draft.world.releases.values():
        names = keep.setdefault(item.service, set())
        if item.state != "gone":
            names.add(item.artifact)
    artifacts.prune(keep)


def _needed(draft: Draft) -> set[str]:
    slots = (
        slot.release
        for service in draft.world.services.values()
        for slot in service.slots.values()
        if slot
    )
    going = (
        release
        for rollout in draft.world.active_rollouts()
        for release in (rollout.to_release, rollout.from_release or "", rollout.back_to or "")
    )
    running = (instance.release for instance in draft.world.instances.values())
    return {*slots, *going, *running, *_served_last(draft.world.rollouts.values())}


def _served_last(rollouts: Collection[Rollout]) -> Iterator[str]:
    """The last few that served, whenever they were made: the way back leads to them."""
    for rollout in _ways_back(rollouts):
        yield rollout.to_release
        yield rollout.from_release or ""


def _ways_back(rollouts: Collection[Rollout]) -> Iterator[Rollout]:
    """What says where `rollback` leads: of each service the newest rollouts that brought what
    serves and the last few releases before it, and those by which somebody went back from them. A
    restart brings what serves already."""
    done = (rollout for rollout in rollouts if rollout.phase is Phase.DONE)
    ordered = sorted(done, key=lambda item: (item.service, -number_of(item.id)))
    for _, items in groupby(ordered, key=lambda item: item.service):
        mine = list(items)
        names = list(dict.fromkeys(item.to_release for item in mine))[: KEPT_WAYS_BACK + 1]
        for name in names:
            yield next(item for item in mine if item.to_release == name)
            left = (item for item in mine if item.from_release == name)
            yield from islice((item for item in left if item.cause in ("rollback", "heal")), 1)


def _too_old(releases: Collection[Release], needed: set[str]) -> list[Release]:
    """What never served is counted by itself, or a bad week would push out what did."""
    found: list[Release] = []
    ordered = sorted(releases, key=lambda item: (item.service, _served(item), -item.created_at))
    for _, items in groupby(ordered, key=lambda item: (item.service, _served(item))):
        spare = [item for item in items if item.state != "gone" and item.id not in needed]
        found += spare[KEPT_RELEASES:]
    return found


def _forgotten(releases: Collection[Release], rollouts: Collection[Rollout]) -> list[str]:
    """Those that are gone, and of which no rollout tells any more."""
    told = {name for rollout in rollouts for name in (rollout.to_release, rollout.from_release)}
    return [item.id for item in releases if item.state == "gone" and item.id not in told]


def _served(release: Release) -> bool:
    return release.state in ("live", "kept")


def _ended_long_ago(rollouts: Collection[Rollout]) -> list[Rollout]:
    found = []
    needed = {rollout.id for rollout in _ways_back(rollouts)}
    by_service = sorted(rollouts, key=lambda item: (item.service, -number_of(item.id)))
    for _, items in groupby(by_service, key=lambda item: item.service):
        found += [item for item in items if item.ended][KEPT_ROLLOUTS:]
    return [item for item in found if item.id not in needed]
