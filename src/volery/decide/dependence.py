"""What a need that is down means for its callers: shown with its reason, never healed by replacing.

A need is *down* while it should run and no instance of it is ready, or while a need of its own is
down that it cannot do without. A caller that fails meanwhile has an *excuse*. How grave it is for
the caller is what the edge declares: `critical` is down as well, `degradable` degraded; an edge of
`unknown` importance is shown like a critical one, and it is said that nobody declared it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from volery.decide.world import World
from volery.model.state import ServiceState

RECOVERY_SECONDS = 30.0
"""How long callers may take to recover by themselves when a need is back."""

Importance = Literal["critical", "degradable", "unknown"]


@dataclass(frozen=True)
class Lack:
    """A need of a service that is down, and in one line what that means."""

    need: str
    importance: Importance
    text: str


def serves(world: World, service: ServiceState) -> bool:
    """Whether any instance of it is ready for requests."""
    return any(
        item.intent == "run" and world.ready(item) for item in world.instances_of(service.name)
    )


def down(world: World) -> frozenset[str]:
    """Every service that should run and cannot serve, by itself or for want of a need."""
    found = {
        name
        for name, service in world.services.items()
        if service.live is not None and not serves(world, service) and not _begins(world, name)
    }
    while found:  # mostly nothing is
        more = {
            name
            for name, service in world.services.items()
            if name not in found
            and any(
                need in found and policy.importance != "degradable"
                for need, policy in service.config.needs.items()
            )
        }
        if not more:
            break
        found |= more
    return frozenset(found)


def absent(world: World) -> frozenset[str]:
    """Needs that the environment does not have: declared since the last `up`. Nothing is excused by
    them, for they do not come back by themselves."""
    needs = {need for service in world.services.values() for need in service.config.needs}
    return frozenset(needs - world.services.keys())


def _begins(world: World, name: str) -> bool:
    """Whether its very first release is only just coming up."""
    rollout = world.rollout_of(name)
    return rollout is not None and rollout.from_release is None


def lacks(service: ServiceState, unavailable: frozenset[str]) -> tuple[Lack, ...]:
    """The needs of a service that are down, gravest first; `unavailable` is what `down` says."""
    if not unavailable:
        return ()
    found = [
        Lack(need, policy.importance, _said(need, policy.importance))
        for need, policy in service.config.needs.items()
        if need in unavailable and need != service.name
    ]
    return tuple(sorted(found, key=lambda lack: (_GRAVITY[lack.importance], lack.need)))


_GRAVITY: Mapping[str, int] = {"critical": 0, "unknown": 1, "degradable": 2}


def _said(need: str, importance: Importance) -> str:
    if importance == "unknown":
        return f"its need {need} is down (importance not declared, so it counts as critical)"
    return f"its need {need} is down ({importance})"


def state_for_want(own: str, missing: tuple[Lack, ...]) -> str:
    """What a service is shown as: its own state, or worse for want of a need."""
    if not missing or own in ("down", "deploying", "leaving"):
        return own
    return "degraded" if missing[0].importance == "degradable" else "down"
