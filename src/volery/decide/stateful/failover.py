"""Is the primary gone, does anybody else claim to be it, and what follows from that?

The primary is *lost* when it ended for good or fails its liveness probe, when it is back with less
data than it had, and when for as long as `failover` it could not write its volume or has not been
known to be the primary: its process ended and is not back as one, it does not answer, or it says
that it is something else. While it starts for the first time it has its start-up time. Whoever else
claims to be the primary is an *impostor* and is killed at once: the one with the recorded term is
right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.decide import claims
from volery.decide.group import Operation
from volery.decide.members import Member, member, members
from volery.decide.stateful.situation import Given, Note
from volery.decide.world import World
from volery.model.application import State
from volery.model.state import Instance, ServiceState
from volery.model.tenure import Claim, Step, Tenure
from volery.model.units import format_duration

MISSED = 2
"""So many questions in a row must go unanswered by a process that runs: one may just be slow."""


def loss(world: World, service: ServiceState, state: State, tenure: Tenure, given: Given) -> str:
    """Why the primary is lost; "" while it is there, or may still come back by itself."""
    primary = member(world, tenure.primary)
    if primary is not None and primary.role == "primary" and _lives(primary):
        return _went_back(world, primary, given) or _cannot_write(service, state, primary, given)
    missing = given.age((service.name, "no primary", tenure.primary, tenure.term))
    if primary is None:
        there = world.instances_of(service.name)
        return "it is not there" if there and missing >= state.failover else ""
    health = world.spec(service, service.active).health
    if primary.seen is not None and primary.seen.state == "exited":
        return f"it ended: {primary.seen.exit or primary.seen.detail}"
    if not _lives(primary) and primary.seen is not None:
        return f"it is not alive: {primary.seen.detail}"
    patience = state.failover if primary.item.proven else max(state.failover, health.startup)
    if primary.seen is not None and primary.seen.state in ("ready", "unready"):
        patience = max(patience, MISSED * health.timeout)
    unsure = primary.seen.unsure_since if primary.seen else None
    gone = missing if unsure is None else max(missing, given.monotonic - unsure)
    gone = min(gone, _heard(world, service, tenure, given))
    if gone < patience:
        return ""
    said = f"its role command says {primary.role}" if primary.role else "its role is unknown"
    return f"{said} for {format_duration(round(gone, 1))}"


def is_emptied(world: World, tenure: Tenure, given: Given) -> bool:
    """Whether the primary is there as one, with less than it had."""
    primary = member(world, tenure.primary)
    return (
        primary is not None
        and primary.role == "primary"
        and bool(_went_back(world, primary, given))
    )


def _went_back(world: World, primary: Member, given: Given) -> str:
    """Positions only grow: a primary that is back with less, while others have more, has lost its
    volume, and would take writes as if nothing had been there."""
    others = members(world, primary.item.service)
    if primary.position >= given.furthest or all(
        item.position <= primary.position for item in others
    ):
        return ""
    return f"its data went back from position {given.furthest} to {primary.position}"


def _cannot_write(service: ServiceState, state: State, primary: Member, given: Given) -> str:
    """It serves, but not what is written: for as long as `failover` that may pass by itself."""
    if primary.sound or primary.seen is None:
        return ""
    bad = given.age((service.name, "bad volume", primary.id))
    return f"its volume {primary.seen.volume}" if bad >= state.failover else ""


def _heard(world: World, service: ServiceState, tenure: Tenure, given: Given) -> float:
    """Seconds since any other member has been heard of: while nobody is, it is not the primary that
    is to blame. For ever where there are no others."""
    others = [item for item in members(world, service.name) if item.id != tenure.primary]
    if not others:
        return float("inf")
    known = any(item.role is not None for item in others)
    return given.age((service.name, "others are heard of")) if known else 0.0


def _lives(primary: Member) -> bool:
    """An instance whose shim was killed is not alive, but serves: that is no loss."""
    seen = primary.seen
    return seen is None or seen.alive or seen.unkept


@dataclass(frozen=True)
class Impostors:
    """Those to be killed, the claims as they are now, what is to be said, and of whom a kill has
    not helped before."""

    operations: tuple[Operation, ...]
    claims: dict[str, Claim]
    notes: tuple[Note, ...]
    failed: tuple[str, ...]


def impostors(world: World, service: ServiceState, tenure: Tenure, given: Given) -> Impostors:
    """Everybody who claims to be the primary and is not, to be killed."""
    change = tenure.changing
    promoted = change.successor if change and change.step in (Step.PROMOTE, Step.CATCH_UP) else ""
    known = _claims(world, service, tenure, given)
    operations, notes, failed = [], [], []
    for item in members(world, service.name):
        if item.role != "primary" or item.id in (tenure.primary, promoted) or item.item.fenced:
            continue
        claim = known[item.id] = claims.noted(known.get(item.id), item, tenure, given.now)
        because = f"it claims to be the primary, which {tenure.primary} is in term {tenure.term}"
        changed = _fenced(item, because, given)
        operations.append(Operation("stop", changed, because, "heal", harms=True))
        if claim.times > 1:
            failed.append(f"{item.id} was killed {claim.times} times: {because}")
        if claims.is_told(claim):
            notes.append(_impostor(item.id, because, claim))
    return Impostors(tuple(operations), known, tuple(notes), tuple(failed))


def _impostor(identity: str, because: str, claim: Claim) -> Note:
    again = f" ({claim.times} times so far)" if claim.times > 1 else ""
    text = f"{identity} is killed{again}: {because}"
    return Note("state.impostor", text, identity, because, {"times": claim.times, "alert": True})


def _claims(world: World, service: ServiceState, tenure: Tenure, given: Given) -> dict[str, Claim]:
    """Those that still say something."""
    kept = {}
    for identity, claim in tenure.claims.items():
        item = member(world, identity)
        honest = item is not None and item.role in ("replica", "syncing")
        honest_for = given.age((service.name, "honest", identity)) if honest else 0.0
        if not claims.is_over(world, service, tenure, identity, honest_for):
            kept[identity] = claim
    return kept


def _fenced(item: Member, because: str, given: Given) -> Instance:
    return replace(item.item, intent="stop", fenced=True, since=given.now, because=because)
