"""The one place between what was decided and the documents: the guard rules, and says so.

Everything here is recorded in the transaction of the tick it belongs to. What waits is said once,
when it begins to wait; a brake is said when it is pulled, and when it is let go.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from volery.control.draft import Draft
from volery.decide import brake
from volery.decide.group import Operation
from volery.decide.guard import admit, noted, policy_of
from volery.decide.submit import known
from volery.model.errors import Code, VoleryError
from volery.model.guard import EVERYTHING, Action, Brake, GuardState, Waiting
from volery.model.units import format_duration


def rule(
    draft: Draft, asked: Sequence[Operation], age: Callable[[Hashable], float]
) -> Sequence[Operation]:
    """What may be done now of all that the services' reconcilers ask for."""
    ruling = admit(draft.world, asked, draft.now, age)
    put(draft, ruling.state)
    for item in ruling.news:
        _say_waits(draft, item)
    return ruling.passed


def tend_brakes(draft: Draft) -> None:
    """Let go of the brakes whose time is over, and pull those that failures call for."""
    before = draft.world.guard
    if not before.failures and not before.brakes:
        return
    state, gone = brake.expire(before, draft.now)
    state, pulled = brake.pull(state, policy_of(draft.world).brake, draft.now)
    put(draft, state)
    for item in gone:
        _say_released(draft, item, "its time is over")
    for item in pulled:
        _say_braked(draft, item)


def put(draft: Draft, state: GuardState) -> None:
    """Write what the guard remembers."""
    if state != draft.world.guard:
        draft.put("guard", "guard", state)


def note_failure(draft: Draft, action: Action) -> None:
    """Remember an automatic action that did not help."""
    put(draft, noted(draft.world.guard, action))


def machine_recovered(draft: Draft, what: str) -> None:
    """Let go of the brake that the machine's trouble pulled: it has been calm since."""
    found = [
        item
        for item in draft.world.guard.brakes
        if item.scope == EVERYTHING and not item.by and item.because.endswith(what)
    ]
    if found:
        state, gone = brake.release(draft.world.guard, frozenset({EVERYTHING}))
        put(draft, state)
        for item in gone:
            _say_released(draft, item, "the machine is calm again")


# --- by hand --------------------------------------------------------------------------------------


def stop_automation(draft: Draft, scope: str, seconds: float | None, by: str) -> Brake:
    """Brake a service, or everything, by hand.

    Raises:
        VoleryError: NOT_FOUND, no such service.
    """
    if scope != EVERYTHING:
        known(draft.world, scope)
    held = policy_of(draft.world).brake.hold if seconds is None else seconds
    because = f"stopped by {by or 'a person'}"
    found = Brake(scope, draft.now, draft.now + held, because, by or "a person")
    put(draft, brake.stop(draft.world.guard, found))
    _say_braked(draft, found)
    return found


def release_brakes(draft: Draft, scope: str, by: str) -> list[Brake]:
    """Let the brake of a service go, or with `EVERYTHING` every brake there is.

    Raises:
        VoleryError: NOT_FOUND, no such service; CONFLICT, nothing is braked there.
    """
    world = draft.world
    if scope == EVERYTHING:
        scopes = frozenset(item.scope for item in world.guard.brakes)
    else:
        scopes = frozenset({known(world, scope).name})
    state, gone = brake.release(world.guard, scopes)
    if not gone:
        raise _nothing_braked(world.guard, scope)
    put(draft, state)
    for item in gone:
        _say_released(draft, item, f"asked for by {by or 'a person'}")
    return gone


def _nothing_braked(state: GuardState, scope: str) -> VoleryError:
    if scope == EVERYTHING:
        return VoleryError("no brake is on", code=Code.CONFLICT, hint="volery guard")
    if brake.braked(state, scope):
        return VoleryError(
            f"{scope} is held by the brake on everything",
            code=Code.CONFLICT,
            hint="volery guard release --all",
        )
    return VoleryError(
        f"the automation of {scope} is not braked", code=Code.CONFLICT, hint="volery guard"
    )


# --- saying it ------------------------------------------------------------------------------------


def _say_waits(draft: Draft, item: Waiting) -> None:
    what = item.instance or f"new instances of {item.service}"
    draft.event(
        "guard.waits",
        f"{what} waits ({item.cause}: {item.wish}): {item.because}; released when: {item.until}",
        service=item.service,
        instance=item.instance or None,
        cause=item.because,
        data={"cause": item.cause, "wish": item.wish, "until": item.until, "ticket": item.ticket},
    )


def _say_braked(draft: Draft, item: Brake) -> None:
    whole = item.scope == EVERYTHING
    what = "all automation" if whole else f"the automation of {item.scope}"
    held = format_duration(item.until - item.since)
    release = "volery guard release " + ("--all" if whole else item.scope)
    draft.event(
        "guard.braked",
        f"{what} stands still for {held}: {item.because}; release it with: {release}",
        service=None if whole else item.scope,
        cause=item.because,
        data={"scope": item.scope, "seconds": item.until - item.since, "by": item.by or None},
    )


def _say_released(draft: Draft, item: Brake, because: str) -> None:
    whole = item.scope == EVERYTHING
    what = "automation" if whole else f"the automation of {item.scope}"
    draft.event(
        "guard.released",
        f"{what} goes on: {because}",
        service=None if whole else item.scope,
        cause=because,
        data={"scope": item.scope},
    )
