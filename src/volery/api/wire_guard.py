"""The guard in JSON: limits, who is disturbed, who waits and for what, which brakes are on."""

from __future__ import annotations

from typing import Any

from volery.decide.capacity import capacities, floor
from volery.decide.guard import braked, limit_of, policy_of
from volery.decide.world import World
from volery.model.guard import EVERYTHING, Brake, Waiting
from volery.model.moment import time
from volery.model.state import ServiceState

Json = dict[str, Any]


def guard(world: World) -> Json:
    """All of it, as `volery guard` shows it."""
    policy, state = policy_of(world), world.guard
    ready, limit = limit_of(world, len(state.disturbed))
    return {
        "limits": policy.model_dump(mode="json"),
        "ready": ready,
        "limit": limit,
        "services": {
            name: {"ready": len(item.serving), "needed": item.needed, "floor": item.floor}
            for name, item in sorted(capacities(world).items())
        },
        "disturbed": [
            {
                "instance": item.instance,
                "service": item.service,
                "cause": item.cause,
                "since": time(item.since),
            }
            for item in state.disturbed
        ],
        "waiting": [waiting(item) for item in state.waiting],
        "brakes": [brake(item) for item in state.brakes],
        "failures": [
            {
                "at": time(item.at),
                "kind": item.kind,
                "service": item.service,
                "text": item.text,
                "machine": item.machine,
            }
            for item in state.failures
        ],
    }


def waiting(item: Waiting) -> Json:
    """One request that waits."""
    return {
        "instance": item.instance or None,
        "service": item.service,
        "cause": item.cause,
        "since": time(item.since),
        "wish": item.wish,
        "because": item.because,
        "until": item.until,
    }


def brake(item: Brake) -> Json:
    """One brake."""
    return {
        "service": None if item.scope == EVERYTHING else item.scope,
        "since": time(item.since),
        "until": time(item.until),
        "because": item.because,
        "by": item.by or None,
    }


def glance(world: World) -> Json:
    """What `status` says of the whole environment's guard."""
    state = world.guard
    return {
        "disturbed": len(state.disturbed),
        "waiting": len(state.waiting),
        "brakes": [brake(item) for item in state.brakes],
    }


def of_service(world: World, state: ServiceState) -> Json:
    """What `status` says of one service."""
    return {
        "stateful": state.config.state is not None,
        "floor": floor(state),
        "waiting": [waiting(item) for item in world.guard.waiting if item.service == state.name],
        "braked": braked(world.guard, state.name) or None,
    }
