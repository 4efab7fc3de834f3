"""The brake: automation that fails again and again stops, instead of spreading what is wrong.

Whoever acts automatically notes what came of it (`noted`) and asks first whether it may go on
(`braked`). Enough failures within a window brake the service; failures of several services, or one
that is the machine's fault, brake the whole environment. A brake is a lease: it ends by itself.
It never stops a person's command, a rollback that is under way, or that a bad instance is taken
out of rotation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from volery.model.budget import BrakeLimits
from volery.model.guard import EVERYTHING, Action, Brake, GuardState

KEPT_FAILURES = 200


def noted(state: GuardState, action: Action) -> GuardState:
    """The state with what came of an automatic action; only what did not help is kept."""
    if action.helped:
        return state
    return replace(state, failures=(*state.failures, action)[-KEPT_FAILURES:])


def braked(state: GuardState, service: str) -> str:
    """Why the automation of this service stands still; "" if it does not."""
    found = [brake for brake in state.brakes if brake.scope in (service, EVERYTHING)]
    return found[0].because if found else ""


def pull(state: GuardState, limits: BrakeLimits, now: float) -> tuple[GuardState, list[Brake]]:
    """The state with the brakes that its failures call for, and these brakes."""
    recent = [item for item in state.failures if 0 <= now - item.at < limits.within]
    found: list[Brake] = []
    if len(recent) < limits.failures and not any(item.machine for item in recent):
        return state, found
    for scope, because in _called_for(recent, limits):
        if not braked(state, scope):
            brake = Brake(scope, now, now + limits.hold, because)
            state = replace(state, brakes=(*state.brakes, brake))
            found.append(brake)
    return state, found


def _called_for(recent: list[Action], limits: BrakeLimits) -> list[tuple[str, str]]:
    """Scopes and reasons, the widest first."""
    by_service = Counter(item.service for item in recent)
    found = []
    fault = next((item for item in reversed(recent) if item.machine), None)
    if fault is not None:
        found.append((EVERYTHING, f"the machine is at fault: {fault.text}"))
    if len(by_service) >= limits.services and len(recent) >= limits.failures:
        names = ", ".join(sorted(by_service))
        because = f"{len(recent)} automatic actions did not help, of {len(by_service)} services"
        found.append((EVERYTHING, f"{because}: {names}; the last: {recent[-1].text}"))
    for service, count in sorted(by_service.items()):
        if count >= limits.failures:
            last = next(item for item in reversed(recent) if item.service == service)
            because = f"{count} automatic actions did not help, the last: {last.text}"
            found.append((service, because))
    return found


def stop(state: GuardState, brake: Brake) -> GuardState:
    """The state with a brake put on by hand, in place of one that was there."""
    others = tuple(item for item in state.brakes if item.scope != brake.scope)
    return replace(state, brakes=(*others, brake))


def release(state: GuardState, scopes: frozenset[str]) -> tuple[GuardState, list[Brake]]:
    """The state without the brakes of these scopes, and these brakes. Their failures are forgotten:
    automation begins anew."""
    gone = [item for item in state.brakes if item.scope in scopes]
    everything = any(item.scope == EVERYTHING for item in gone)
    kept = tuple(item for item in state.failures if not everything and item.service not in scopes)
    brakes = tuple(item for item in state.brakes if item not in gone)
    return (replace(state, brakes=brakes, failures=kept), gone) if gone else (state, [])


def expire(state: GuardState, now: float) -> tuple[GuardState, list[Brake]]:
    """The state without the brakes whose time is over, and these brakes."""
    if not state.brakes:
        return state, []
    anchored = tuple(_anchored(item, now) for item in state.brakes)
    if anchored != state.brakes:
        state = replace(state, brakes=anchored)
    return release(state, frozenset(item.scope for item in state.brakes if item.until <= now))


def _anchored(brake: Brake, now: float) -> Brake:
    """A brake that began in the future, because the wall clock was set back, begins now."""
    if brake.since <= now:
        return brake
    return replace(brake, since=now, until=now + (brake.until - brake.since))
