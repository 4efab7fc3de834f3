"""What `rollback` means while a rollout runs: turn it round, and if need be go further back.

Where the release asked for is the one the running rollout came from, turning round is the whole way
back. Otherwise the rollout remembers where to go next (`back_to`), and whoever records its end
begins a rollback to there: one rollout at a time, and a crash in between forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.decide.rollout import abort
from volery.decide.submit import Order, earlier
from volery.decide.world import World
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, Rollout, ServiceState


@dataclass(frozen=True)
class Reversal:
    """The running rollout and its service as they should be; `release` will serve at the end."""

    rollout: Rollout
    service: ServiceState
    release: str


def reverse(
    world: World, service: ServiceState, running: Rollout, to: str | None, order: Order
) -> Reversal:
    """Go back from the middle of a rollout, to the release asked for or the one before.

    Asked twice it goes back once: a rollback on its way there is left alone.

    Raises:
        VoleryError: NOT_FOUND, no such release; CONFLICT, there is nothing to go back to.
    """
    wanted = _wanted(world, service, running, to)
    turned = running.phase is Phase.ROLLING_BACK
    if wanted == running.to_release and not turned:
        return Reversal(running, service, wanted)
    after = running
    if not turned:
        reason = f"rollback asked for by {order.by or 'a person'}"
        after, service = abort(running, service, reason, order.now)
    further = None if wanted == running.from_release else wanted
    return Reversal(replace(after, back_to=further, back_by=order.by), service, wanted)


def _wanted(world: World, service: ServiceState, running: Rollout, to: str | None) -> str:
    if running.from_release is None:
        raise VoleryError(
            f"{service.name} has nothing to go back to: {running.id} is its first rollout",
            code=Code.CONFLICT,
            hint=f"volery abort {service.name}",
        )
    if to is not None:
        return earlier(world, service, to).id
    if running.cause in ("rollback", "heal"):
        return running.to_release
    if running.cause == "restart":
        return earlier(world, service, None).id
    return running.from_release
