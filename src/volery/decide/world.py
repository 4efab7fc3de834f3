"""One consistent look at everything: what is remembered and what is observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from volery.model.application import Service
from volery.model.ports import BuildStatus, Observation
from volery.model.state import (
    EnvironmentState,
    Instance,
    Release,
    Rollout,
    ServiceState,
    SlotName,
)


@dataclass(frozen=True)
class World:
    """Documents by key, observations by instance id, builds by release id. Never changes."""

    environment: EnvironmentState | None = None
    services: Mapping[str, ServiceState] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    releases: Mapping[str, Release] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    observed: Mapping[str, Observation] = field(default_factory=dict)
    builds: Mapping[str, BuildStatus] = field(default_factory=dict)

    @cached_property
    def _instances(self) -> Mapping[str, list[Instance]]:
        found: dict[str, list[Instance]] = {}
        for instance in self.instances.values():
            found.setdefault(instance.service, []).append(instance)
        for instances in found.values():
            instances.sort(key=lambda instance: (instance.created_at, number_of(instance.id)))
        return found

    @cached_property
    def _active(self) -> list[Rollout]:
        live = (rollout for rollout in self.rollouts.values() if not rollout.ended)
        return sorted(live, key=lambda rollout: (rollout.created_at, rollout.id))

    def instances_of(self, service: str, slot: SlotName | None = None) -> list[Instance]:
        """The instances of a service, or of one of its groups, in a stable order."""
        found = self._instances.get(service, [])
        return [instance for instance in found if slot in (None, instance.slot)]

    def ready(self, instance: Instance) -> bool:
        """Whether the engine says that it can serve now."""
        seen = self.observed.get(instance.id)
        return seen is not None and seen.state == "ready" and seen.address is not None

    def spec(self, service: ServiceState, slot: SlotName) -> Service:
        """The configuration the group in a slot runs with: its release's, not today's manifest."""
        group = service.slots.get(slot)
        release = self.releases.get(group.release) if group else None
        return release.spec if release else service.config

    def active_rollouts(self) -> Iterator[Rollout]:
        """Rollouts that have not ended, oldest first."""
        return iter(self._active)

    def rollout_of(self, service: str) -> Rollout | None:
        """The rollout of a service that is under way, if any; there is never more than one."""
        return next((rollout for rollout in self._active if rollout.service == service), None)


def number_of(instance: str) -> int:
    """The ordinal at the end of an instance id: catalog-3f2a91c0-2 -> 2."""
    return int(instance.rpartition("-")[2])
