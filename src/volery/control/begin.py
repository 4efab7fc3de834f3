"""Beginning rollouts: the document and the event that says why, in the same transaction."""

from __future__ import annotations

from dataclasses import replace

from volery.control.draft import Draft
from volery.decide.submit import Order, rollback
from volery.decide.upkeep import is_leaving
from volery.model.errors import VoleryError
from volery.model.state import Rollout


def begin(draft: Draft, rollout: Rollout) -> None:
    """Write a new rollout and say so."""
    draft.put("rollout", rollout.id, rollout)
    origin = f" from {rollout.from_release}" if rollout.from_release else ""
    draft.event(
        "rollout.started",
        f"{rollout.service}: {rollout.cause}{origin} to {rollout.to_release} ({rollout.strategy})",
        service=rollout.service,
        release=rollout.to_release,
        cause=f"{rollout.cause} by {rollout.by}" if rollout.by else rollout.cause,
        data={"rollout": rollout.id, "group": rollout.group},
    )


def go_further_back(draft: Draft, ended: Rollout) -> None:
    """A rollout that was turned round has ended, and somebody asked for a still earlier release."""
    service = draft.world.services.get(ended.service)
    if ended.back_to is None or service is None or is_leaving(draft.world, service):
        return
    order = Order("rollback", ended.back_by, draft.now)
    try:
        further = rollback(draft.world, ended.service, ended.back_to, order)
    except VoleryError as error:  # it was deleted meanwhile, or the service has nothing left
        draft.event("rollout.undo_failed", error.message, service=ended.service)
        return
    begin(draft, replace(further, group=ended.group))
