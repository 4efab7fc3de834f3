"""What a person may do with a rollout that is under way: abort, pause, resume, promote."""

from __future__ import annotations

from volery.decide.phases import pause, resume
from volery.decide.rollout import abort
from volery.decide.staged import promoted
from volery.decide.world import World
from volery.model.errors import Code, VoleryError
from volery.model.state import Phase, Rollout, ServiceState

PAUSABLE = (Phase.STARTING, Phase.SHIFTING, Phase.ANALYSING)
Moved = tuple[Rollout, ServiceState]


def chosen(world: World, service: str, verb: str) -> Rollout:
    """The rollout that is meant: the one that moves, but what is aborted is what was asked for
    last.

    Raises:
        VoleryError: CONFLICT, none is under way.
    """
    newest = world.newest_rollout_of(service)
    rollout = newest if verb == "abort" else world.rollout_of(service)
    if rollout is None:
        raise VoleryError(
            f"{service} has no rollout under way",
            code=Code.CONFLICT,
            hint=f"volery rollout {service} shows the last one",
        )
    return rollout


def act(
    rollout: Rollout, service: ServiceState, verb: str, reason: str, now: float, *, full: bool
) -> Moved:
    """The rollout and its service after a person's word.

    `promote` lets the present step pass, whatever the evidence, the gates and the approval it waits
    for say; with `full` every step that is left.

    Raises:
        VoleryError: CONFLICT, this cannot be done in the phase it is in.
    """
    phase, paused = rollout.phase, rollout.phase is Phase.PAUSED
    if verb == "abort" and phase is not Phase.ROLLING_BACK:
        return abort(rollout, service, reason, now)
    if verb == "pause" and phase in PAUSABLE:
        return pause(rollout, now, reason), service
    if verb == "resume" and paused and rollout.paused_for == "approval":
        raise VoleryError(
            f"{rollout.id} waits for approval, which resume does not give",
            code=Code.CONFLICT,
            hint=f"volery promote {rollout.service}",
        )
    if verb == "resume" and paused:
        return resume(rollout, now), service
    if verb == "promote" and (paused or phase in PAUSABLE):
        going = resume(rollout, now) if paused else rollout
        return promoted(going, full=full), service
    watch = f"volery rollout {rollout.service} --watch"
    turned = phase is Phase.ROLLING_BACK
    raise VoleryError(
        f"cannot {verb} {rollout.id} while it is {phase.replace('_', ' ')}",
        code=Code.CONFLICT,
        hint=f"it ends by itself: {watch}" if turned else watch,
    )
