"""Who of a stateful service is what, as far as that is known now.

A *member* is one instance, by its place (0, 1, ...). Its role is *known* while its last question
was answered. *Dead* means that the engine confirms that nothing of it runs. A *copy* is a member
that is known to hold the data: the primary, or a replica in sync.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from volery.decide.world import World, number_of
from volery.model.application import State
from volery.model.ports import Observation
from volery.model.state import Instance, ServiceState
from volery.model.tenure import Role, Tenure


@dataclass(frozen=True)
class Member:
    """One instance and what is seen of it."""

    item: Instance
    seen: Observation | None

    @property
    def id(self) -> str:
        """Its name, the same for ever."""
        return self.item.id

    @property
    def dead(self) -> bool:
        """Whether the engine says that nothing of it runs."""
        return self.seen is None or self.seen.state == "exited"

    @property
    def role(self) -> Role | None:
        """Its role, None while that is unknown."""
        seen = self.seen
        if seen is None or self.dead or seen.state == "stopping" or seen.unsure_since is not None:
            return None
        return seen.role

    @property
    def position(self) -> int:
        """How far its data was when it last said so."""
        return (self.seen.position if self.seen else None) or 0

    @property
    def sound(self) -> bool:
        """Whether it can write what it takes in, as far as is known."""
        return self.seen is None or not self.seen.volume

    @property
    def staying(self) -> bool:
        """Whether it is wished to run on."""
        return self.item.intent == "run"


def members(world: World, service: str) -> list[Member]:
    """Every instance of a service, by place."""
    found = [Member(item, world.observed.get(item.id)) for item in world.instances_of(service)]
    return sorted(found, key=lambda member: number_of(member.id))


def member(world: World, identity: str) -> Member | None:
    """One instance; None if there is none of this name."""
    item = world.instances.get(identity)
    return Member(item, world.observed.get(identity)) if item else None


def dead(world: World, identity: str) -> bool:
    """Whether nothing of this instance runs, as the engine says; its record may be gone."""
    seen = world.observed.get(identity)
    return seen is None or seen.state == "exited"


def replicas(found: Iterable[Member], tenure: Tenure) -> list[Member]:
    """The ones in sync that could take over: healthy, with a volume they can write, known to be
    replicas, and to stay."""
    return [
        item
        for item in found
        if item.role == "replica"
        and item.id != tenure.primary
        and item.staying
        and item.sound
        and not item.item.condemned
        and item.seen is not None
        and item.seen.state == "ready"
    ]


def best(candidates: Iterable[Member], failures: dict[str, int]) -> Member | None:
    """The most advanced one; among equals the one that failed least, then the lowest place."""
    order = sorted(
        candidates,
        key=lambda item: (-item.position, failures.get(item.id, 0), number_of(item.id)),
    )
    return order[0] if order else None


def state_of(world: World, service: ServiceState) -> State | None:
    """What the manifest says of its state, if its instances say which role they have."""
    found = world.spec(service, service.active).state
    return found if found is not None and found.role is not None else None


def place(service: str, number: int) -> str:
    """The name of an instance, for ever."""
    return f"{service}-{number}"
