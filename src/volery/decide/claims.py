"""Instances that claim to be the primary out of turn, and are killed for it.

The kill is never put off and asks nobody: two primaries are worse than none. What waits, each time
longer, is the next start of the same group at the same place: a role command that is wrong does not
get better by being asked more often. Another group's start (a new release, a restart by hand) waits
for nothing, since it may be what mends it; one whose instance claims again too is a bad one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from volery.decide import backoff
from volery.decide.members import Member, member
from volery.decide.world import World, number_of
from volery.model import moment
from volery.model.state import Rollout, ServiceState, SlotName
from volery.model.tenure import Claim, Tenure

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
"""Between two starts of one that claims again and again; after the first kill it starts at once."""
HONEST_SECONDS = 30.0
"""After so long as a replica what it claimed before is forgotten."""
BAD_CLAIMS = 2
"""So many claims of one of its instances make a new release a bad one."""
ADVICE = "make it say what the process is: docs/how-to/keep-data.md"


def noted(claim: Claim | None, item: Member, tenure: Tenure, now: float) -> Claim:
    """The claim with one more kill; a count of its own for each group."""
    slot, release = item.item.slot, item.item.release
    if claim is None or (claim.slot, claim.release) != (slot, release):
        claim = Claim(slot, release, since=now)
    times = claim.times + 1
    text = f"its role command says primary, though {tenure.primary} is (term {tenure.term})"
    pause = backoff.wait(item.id, times, FIRST_SECONDS, LONGEST_SECONDS)
    return replace(claim, times=times, text=text, not_before=now + pause)


def is_told(claim: Claim) -> bool:
    """Whether this kill is worth an event: the first, the second, the fourth, the eighth, ..."""
    return claim.times & (claim.times - 1) == 0


def is_over(
    world: World, service: ServiceState, tenure: Tenure, identity: str, honest_for: float
) -> bool:
    """Whether a claim says nothing any more: its place is not wanted, another group has it, or
    its instance is the primary by record or has been a replica for long enough."""
    item = member(world, identity)
    if item is None:
        return number_of(identity) >= service.scale
    moved = item.item.slot != tenure.claims[identity].slot
    return moved or identity == tenure.primary or honest_for >= HONEST_SECONDS


def waits(tenure: Tenure | None, identity: str, slot: SlotName, now: float) -> bool:
    """Whether this group's start at a place must still wait; a wall clock that was set back does
    not count."""
    claim = tenure.claims.get(identity) if tenure else None
    if claim is None or claim.slot != slot:
        return False
    return 0 < claim.not_before - now <= LONGEST_SECONDS


def open_claims(world: World, service: str) -> Mapping[str, Claim]:
    """The claims of those that are not known to be honest now."""
    tenure = world.tenures.get(service)
    found = {}
    for identity, claim in tenure.claims.items() if tenure else ():
        item = member(world, identity)
        if item is None or item.role not in ("replica", "syncing"):
            found[identity] = claim
    return found


def said(identity: str, claim: Claim) -> str:
    """In one line: what it claims, since when, and what to do."""
    often = "once" if claim.times == 1 else f"{claim.times} times"
    since = moment.time(claim.since)
    return f"{identity} was killed {often} since {since}: {claim.text}; {ADVICE}"


def failure(world: World, rollout: Rollout) -> str:
    """Why the claims of its instances make the release of a rollout a bad one; "" if they do
    not."""
    tenure = world.tenures.get(rollout.service)
    for identity, claim in sorted(tenure.claims.items()) if tenure else ():
        mine = (claim.slot, claim.release) == (rollout.slot, rollout.to_release)
        if mine and claim.times >= BAD_CLAIMS:
            return f"{identity} was killed {claim.times} times: {claim.text}; {ADVICE}"
    return ""
