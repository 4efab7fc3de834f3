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
        # The wall clock may have been set back: what was asked for later has a higher number.
        return sorted(live, key=lambda rollout: (number_of(rollout.id), rollout.id))

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
        """The rollout of a service that is under way, if any: the oldest. A newer one may be built
        meanwhile and waits until this one has ended."""
        return next((rollout for rollout in self._active if rollout.service == service), None)

    def newest_rollout_of(self, service: str) -> Rollout | None:
        """The rollout of a service that was asked for last, if any is under way."""
        return next((item for item in reversed(self._active) if item.service == service), None)


def number_of(identity: str) -> int:
    """The ordinal at the end of an instance's or rollout's id: catalog-3f2a91c0-2 -> 2,
    catalog-r7 -> 7."""
    return int(identity.rpartition("-")[2].removeprefix("r"))
