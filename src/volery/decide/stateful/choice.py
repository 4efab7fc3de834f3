"""Whom to promote, once the former primary is dead.

The most advanced replica in sync, as told after that death, when its position stands still. Not
before most members are known: the dead one counts, as it can write no more. A member that is not
known may hold the newest data: it is waited for, for a while; one that was further than anybody is
now, or is and is syncing, for as long as it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from volery.decide.members import Member, best, members, place, replicas
from volery.decide.stateful.situation import Given
from volery.decide.world import World, number_of
from volery.model.state import ServiceState
from volery.model.tenure import Handover, Tenure

STILL_SECONDS = 0.15
"""For so long the best position must not grow."""
GROWING_SECONDS = 5.0
"""A position that still grows after this long is not waited for."""
PATIENCE = 5.0
"""Members that are not known are waited for so many times as long as `failover`."""


@dataclass(frozen=True)
class Choice:
    """The successor, or why there is none yet; whether the former primary should come back first;
    the numbers of the decision."""

    successor: Member | None = None
    waits: str = ""
    returns: bool = False
    because: str = ""
    numbers: dict[str, object] = field(default_factory=dict)


def choose(
    world: World,
    service: ServiceState,
    tenure: Tenure,
    handover: Handover,
    given: Given,
    failover: float,
) -> Choice:
    """Whom to promote now."""
    found = members(world, service.name)
    waited = given.age((service.name, handover.number, "catch up", handover.attempt))
    began = given.monotonic - waited
    size = max(service.scale, len(found))
    known = [item for item in found if _told_since(item, began)]
    counted = len({item.id for item in known} | {handover.out})
    patient = waited >= PATIENCE * failover
    returns = handover.returns or patient
    if 2 * counted <= size:
        return Choice(waits=f"only {counted} of {size} members are known", returns=returns)
    candidates = _candidates(known, tenure, handover)
    chosen = best(_preferred(candidates, service, handover), handover.failures)
    if chosen is None:
        return Choice(waits="no replica is in sync", returns=returns)
    unseen = _unseen(service, found, known, handover)
    ahead = _ahead(known, unseen, chosen, handover)
    if ahead:
        return Choice(waits=ahead, returns=returns)
    missed = [name for name in unseen if unknown_for(service, name, given) < PATIENCE * failover]
    if missed:
        said = f"{', '.join(missed)} may know more and is not known now"
        return Choice(waits=said, returns=returns)
    if still_for(service, chosen, given) < STILL_SECONDS and waited < GROWING_SECONDS:
        return Choice(waits=f"{chosen.id} still takes in what is on its way", returns=returns)
    numbers: dict[str, object] = {
        "term": handover.term,
        "positions": {item.id: item.position for item in candidates},
        "known": counted,
        "members": size,
        "unseen": sorted(unseen),
    }
    because = f"it is at {chosen.position}, {counted} of {size} members are known"
    return Choice(chosen, because=because, numbers=numbers)


def _told_since(item: Member, began: float) -> bool:
    """Whether its role and position were asked for after the death: what it said before may leave
    out a write that it took in since and that was acknowledged because of it. Who claims to be the
    primary lies, and will be asked again when it was killed."""
    asked = item.seen.asked_at if item.seen else None
    said = item.role is not None and item.role != "primary"
    return said and asked is not None and asked >= began


def _candidates(found: list[Member], tenure: Tenure, handover: Handover) -> list[Member]:
    """Replicas in sync; the former primary too, if it is back as one."""
    there = replicas(found, tenure)
    if handover.returns:
        there += [
            item
            for item in found
            if item.id == tenure.primary and item.role == "replica" and item.staying and item.sound
        ]
    return there


def _preferred(candidates: list[Member], service: ServiceState, handover: Handover) -> list[Member]:
    """Of those that are as far as the furthest: the one asked for, or those that stay when the
    service is scaled down."""
    furthest = max((item.position for item in candidates), default=0)
    equal = [item for item in candidates if item.position == furthest]
    asked = [item for item in equal if item.id == handover.to]
    staying = [item for item in equal if number_of(item.id) < service.scale]
    return asked or staying or equal


def _ahead(
    known: list[Member], unseen: dict[str, Member | None], chosen: Member, handover: Handover
) -> str:
    """Who has more than anybody that can be promoted, and why it is not itself."""
    others = [item for item in known if item.id != handover.out]
    for item in (*filter(None, unseen.values()), *others):
        if item.position > chosen.position:
            said = f"{item.id} has more ({item.position}) than {chosen.id} ({chosen.position})"
            if item not in others:
                return f"{said} and is not known now"
            bad = item.seen.volume if item.seen and not item.sound else ""
            return f"{said} and its volume {bad}" if bad else f"{said} and is not in sync yet"
    return ""


def _unseen(
    service: ServiceState, found: list[Member], known: list[Member], handover: Handover
) -> dict[str, Member | None]:
    """Members that may hold data and whose role is unknown; None for those that do not run."""
    names = {item.id for item in known} | {handover.out}
    places = [place(service.name, number) for number in range(service.scale)]
    there: dict[str, Member | None] = dict.fromkeys(places)
    there |= {item.id: item for item in found}
    return {name: item for name, item in there.items() if name not in names}


def still_for(service: ServiceState, item: Member, given: Given) -> float:
    """How long a member's position has not grown; to be asked at every look."""
    return given.age((service.name, "still", item.id, item.position))


def unknown_for(service: ServiceState, identity: str, given: Given) -> float:
    """How long the role of a member has been unknown; to be asked at every look while it is."""
    return given.age((service.name, "unknown", identity))
