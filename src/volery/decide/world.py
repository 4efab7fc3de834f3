"""One consistent look at everything: what is remembered and what is observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from volery.decide.gateway_routes import in_force
from volery.model.application import Route, Service
from volery.model.guard import GuardState
from volery.model.healing import Heal
from volery.model.ports import BuildStatus, Observation
from volery.model.state import (
    EnvironmentState,
    Instance,
    Release,
    Rollout,
    ServiceState,
    SlotName,
)
from volery.model.tenure import Tenure


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
    tenures: Mapping[str, Tenure] = field(default_factory=dict)
    heals: Mapping[str, Heal] = field(default_factory=dict)
    guard: GuardState = field(default_factory=GuardState)

    @cached_property
    def _instances(self) -> Mapping[tuple[str, SlotName | None], list[Instance]]:
        found: dict[tuple[str, SlotName | None], list[Instance]] = {}
        ordered = sorted(self.instances.values(), key=lambda i: (i.created_at, number_of(i.id)))
        for instance in ordered:
            found.setdefault((instance.service, None), []).append(instance)
            found.setdefault((instance.service, instance.slot), []).append(instance)
        return found

    @cached_property
    def _active(self) -> list[Rollout]:
        live = (rollout for rollout in self.rollouts.values() if not rollout.ended)
        # The wall clock may have been set back: what was asked for later has a higher number.
        return sorted(live, key=lambda rollout: (number_of(rollout.id), rollout.id))

    @cached_property
    def _changing(self) -> Mapping[str, list[Rollout]]:
        found: dict[str, list[Rollout]] = {}
        for rollout in self._active:
            found.setdefault(rollout.service, []).append(rollout)
        return found

    @cached_property
    def _heals(self) -> Mapping[str, list[Heal]]:
        found: dict[str, list[Heal]] = {}
        for heal in sorted(self.heals.values(), key=lambda heal: int(heal.id.rpartition("-h")[2])):
            found.setdefault(heal.service, []).append(heal)
        return found

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The routes of the gateway that are in force."""
        environment = self.environment
        if environment is None or not environment.running:
            return ()
        return in_force(
            environment.application.gateway.routes,
            [route for route in environment.routes_before if route.service in self.services],
            environment.awaited,
            [name for name, service in self.services.items() if service.removing],
        )

    @cached_property
    def as_run(self) -> Mapping[str, Service]:
        """Each service with the needs of all that runs of it or may be started again: what is
        called follows from releases, and a manifest may be newer than these."""
        return {name: self._as_it_runs(service) for name, service in self.services.items()}

    def _as_it_runs(self, service: ServiceState) -> Service:
        specs = [release.spec for release in self.releases_run(service)]
        needs = {need: policy for spec in specs for need, policy in spec.needs.items()}
        return service.config.model_copy(update={"needs": needs})

    def releases_run(self, service: ServiceState) -> list[Release]:
        """The releases of a service that run or may be started again, in a stable order."""
        names = {item.release for item in self.instances_of(service.name)}
        names |= {slot.release for slot in service.slots.values() if slot and slot.count}
        for rollout in self._changing.get(service.name, ()):
            names |= {rollout.to_release, rollout.from_release or rollout.to_release}
        return [self.releases[name] for name in sorted(names) if name in self.releases]

    @cached_property
    def staying(self) -> frozenset[str]:
        """The services that are kept while the environment runs: those in the manifest, and of the
        others those that users or a service that stays still call. Until an `up` is through, the
        others all stay: it removes last."""
        kept = {name for name, service in self.services.items() if not service.removing}
        up = any(item.cause == "up" and item.service in kept for item in self._active)
        unvisited = list(self.services if up else kept | {route.service for route in self.routes})
        found: set[str] = set()
        while unvisited:
            name = unvisited.pop()
            if name in self.as_run and name not in found:
                found.add(name)
                unvisited += self.as_run[name].needs
        return frozenset(found)

    def base_env_of(self, release: Release) -> Mapping[str, str]:
        """The caller's variables that whatever runs of a release sees."""
        return release.base_env or (self.environment.base_env if self.environment else {})

    def after(self, before: World | None) -> World:
        """This world, with what an earlier one has worked out from documents that are the same."""
        known = vars(before) if before else {}
        for view, source in VIEWS.items():
            if view in known and getattr(self, source) is getattr(before, source):
                vars(self)[view] = known[view]
        return self

    def instances_of(self, service: str, slot: SlotName | None = None) -> Sequence[Instance]:
        """The instances of a service, or of one of its groups, in a stable order."""
        return self._instances.get((service, slot), ())

    def ready(self, instance: Instance) -> bool:
        """Whether the engine says that it can serve now; one with a role also has to say it, and to
        be in sync."""
        seen = self.observed.get(instance.id)
        if seen is None or seen.state != "ready" or seen.address is None:
            return False
        return not self.has_roles(instance) or in_sync(seen)

    def has_roles(self, instance: Instance) -> bool:
        """Whether the instance says which role it has."""
        release = self.releases.get(instance.release)
        return release is not None and bool(release.spec.state and release.spec.state.role)

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
        found = self._changing.get(service)
        return found[0] if found else None

    def heals_of(self, service: str) -> Sequence[Heal]:
        """The heals of a service that are remembered, oldest first."""
        return self._heals.get(service, ())

    def newest_rollout_of(self, service: str) -> Rollout | None:
        """The rollout of a service that was asked for last, if any is under way."""
        found = self._changing.get(service)
        return found[-1] if found else None


VIEWS = {
    "_instances": "instances",
    "_active": "rollouts",
    "_changing": "rollouts",
    "_heals": "heals",
}
"""What a world works out once, and from which of its documents."""


def in_sync(seen: Observation) -> bool:
    """Whether an instance is known to be a primary or a replica now."""
    return seen.unsure_since is None and seen.role in ("primary", "replica")


@lru_cache(maxsize=4096)
def number_of(identity: str) -> int:
    """The ordinal at the end of an instance's or rollout's id: catalog-3f2a91c0-2 -> 2,
    catalog-r7 -> 7."""
    return int(identity.rpartition("-")[2].removeprefix("r"))
