"""Leads routes of the gateway to services that have begun to serve."""

from __future__ import annotations

from dataclasses import replace

from volery.control.draft import Draft
from volery.decide.gateway import arrived


def lead(draft: Draft) -> None:
    """Routes to a service that was awaited are in force from its first whole release on, and stay
    so whatever happens to it then."""
    environment, there = draft.world.environment, arrived(draft.world)
    if environment is None or not there:
        return
    awaited = tuple(name for name in environment.awaited if name not in there)
    before = environment.routes_before if awaited else ()
    draft.put(
        "environment", "environment", replace(environment, awaited=awaited, routes_before=before)
    )
    for name in sorted(there):
        draft.event("gateway.routed", f"users reach {name} from now on", service=name)
