"""Stewards of stateful services: what `decide.stateful` decides becomes documents and wishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from volery.control.draft import Draft
from volery.control.guarding import note_failure
from volery.control.rollouts import turn_round
from volery.control.watch import Ages, Generations
from volery.decide.group import Operation
from volery.decide.guard import has_room
from volery.decide.members import member, state_of
from volery.decide.stateful import Given, Note, role_watches, steward, wishes
from volery.decide.world import World
from volery.model.guard import Action
from volery.model.ports import Engine, TrafficStatus
from volery.model.state import Phase, ServiceState


class Stewards:
    """Looks after the primary of every stateful service that has roles."""

    def __init__(self, engine: Engine, ages: Ages, generations: Generations) -> None:
        self._engine = engine
        self._ages = ages
        self._generations = generations
        self._furthest: dict[tuple[str, str, int], int] = {}
        """By service, primary and term."""

    def look(
        self,
        draft: Draft,
        service: ServiceState,
        operations: Sequence[Operation],
        status: TrafficStatus,
        monotonic: float,
    ) -> Sequence[Operation]:
        """Record what is decided about one service; returns what may be done to its instances."""
        if state_of(draft.world, service) is None:
            return operations
        given = Given(
            now=draft.now,
            monotonic=monotonic,
            age=lambda key: self._ages.of(key, monotonic),
            withdrawn=self._withdrawn(status),
            furthest=self._note_position(draft.world, service.name),
            has_room=has_room(draft.world, service),
        )
        decided = steward(draft.world, service, operations, given)
        if decided is None:
            return operations
        draft.put("tenure", service.name, decided.tenure)
        for note in decided.notes:
            _say(draft, service.name, note)
        for text in decided.failed:
            note_failure(draft, Action("heal", service.name, draft.now, helped=False, text=text))
        rollout = draft.world.rollout_of(service.name)
        if decided.abort and rollout is not None and rollout.phase is not Phase.ROLLING_BACK:
            turn_round(draft, rollout, decided.abort)
        return decided.operations

    def carry_out(self, world: World) -> None:
        """Wish that roles are asked, and commands run."""
        self._engine.watch_roles(role_watches(world))
        for identity, key, command in wishes(world):
            self._engine.command(identity, key, command)

    def _note_position(self, world: World, service: str) -> int:
        """How far the primary has said to be since this control plane began to look."""
        tenure = world.tenures.get(service)
        if tenure is None:
            return 0
        key = (service, tenure.primary, tenure.term)
        for other in [one for one in self._furthest if one[0] == service and one != key]:
            del self._furthest[other]
        seen = member(world, tenure.primary)
        said = seen.position if seen is not None and seen.role == "primary" else 0
        self._furthest[key] = max(said, tenure.furthest, self._furthest.get(key, 0))
        return self._furthest[key]

    def _withdrawn(self, status: TrafficStatus) -> Callable[[str], bool]:
        return lambda identity: self._generations.withdrawn(identity, status)


def _say(draft: Draft, service: str, note: Note) -> None:
    item = draft.world.instances.get(note.instance)
    draft.event(
        note.kind,
        note.text,
        service=service,
        release=item.release if item else None,
        instance=note.instance or None,
        cause=note.cause or None,
        data=note.data,
    )
