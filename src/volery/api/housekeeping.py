"""Bounds what is kept: releases to go back to, their artifacts, the records of ended rollouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Protocol

from volery.control.controller import Controller
from volery.control.draft import Draft
from volery.model.state import Release, Rollout

KEPT_RELEASES = 10
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
    return {*slots, *going, *running}


def _too_old(releases: Collection[Release], needed: set[str]) -> list[Release]:
    found = []
    by_service = sorted(releases, key=lambda item: (item.service, -item.created_at))
    for _, items in groupby(by_service, key=lambda item: item.service):
        spare = [item for item in items if item.state != "gone" and item.id not in needed]
        found += spare[KEPT_RELEASES:]
    return found


def _ended_long_ago(rollouts: Collection[Rollout]) -> list[Rollout]:
    found = []
    by_service = sorted(rollouts, key=lambda item: (item.service, -item.created_at))
    for _, items in groupby(by_service, key=lambda item: item.service):
        found += [item for item in items if item.ended][KEPT_ROLLOUTS:]
    return found
