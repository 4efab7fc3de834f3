"""The handover: the journaled, step-by-step change of the primary of a service.

Two ways lead to one end. A planned *switchover* lets the primary finish (backup, demote, out of
rotation, stop); a *failover* kills it. From then on they are the same: only when the engine says
that nothing of the former primary runs is the most advanced replica promoted, and only with most
members known. Each call is idempotent; a crash between any two calls resumes. It never runs
anything itself: `wishes` says which command a step waits for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from volery.decide.group import Operation
from volery.decide.members import dead, member, members, replicas
from volery.decide.stateful.choice import Choice, choose
from volery.decide.stateful.failover import loss
from volery.decide.stateful.situation import Given, Note
from volery.decide.world import World
from volery.model.application import State
from volery.model.ports import Answer, SideCommand
from volery.model.state import ServiceState
from volery.model.tenure import Handover, Step, Tenure

TRANSITIONS: dict[Step, frozenset[Step]] = {
    Step.BACKUP: frozenset({Step.DEMOTE, Step.ABANDONED}),
    Step.DEMOTE: frozenset({Step.WITHDRAW, Step.ABANDONED}),
    Step.WITHDRAW: frozenset({Step.STOP, Step.CATCH_UP, Step.ABANDONED}),
    Step.STOP: frozenset({Step.CATCH_UP, Step.ABANDONED}),
    Step.FENCE: frozenset({Step.CATCH_UP, Step.ABANDONED}),
    Step.CATCH_UP: frozenset({Step.PROMOTE, Step.FENCE, Step.ABANDONED}),
    Step.PROMOTE: frozenset({Step.DONE, Step.CATCH_UP, Step.FENCE, Step.ABANDONED}),
    Step.DONE: frozenset(),
    Step.ABANDONED: frozenset(),
}
"""Which step may follow which."""

BEFORE_HARM = (Step.BACKUP, Step.DEMOTE)
"""Steps in which the primary still serves, so that the handover can be given up."""
BACKUP_SECONDS, DEMOTE_SECONDS, SWITCHOVER_SECONDS = 600.0, 30.0, 15.0
WITHDRAW_SECONDS = 1.0
"""How long to wait until the data plane has turned away from the primary."""
LAG_SECONDS = 2.0
"""How long a demoted primary waits until a replica, or the one asked for, is as far as it is."""
REPLICA_SECONDS = 30.0
"""How long a switchover waits for a replica in sync before it is given up."""
PROVE_SECONDS = 10.0
"""How long the role of a promoted one may take to be `primary`."""
NO_ROOM = "as many instances are disturbed as may be at once: volery guard"
"""Why a switchover does not begin: nobody holds it back once the primary takes no writes."""
TRIES = 3
"""After so many failures to be promoted an instance is killed, and starts again as a replica."""


@dataclass(frozen=True)
class Case:
    """Everything one step looks at."""

    world: World
    service: ServiceState
    state: State
    tenure: Tenure
    handover: Handover
    given: Given

    def age(self, *what: object) -> float:
        """How long something has been so in this handover."""
        return self.given.age((self.service.name, self.handover.number, *what))


@dataclass(frozen=True)
class Moved:
    """The handover after a step, and what is to be done for it."""

    handover: Handover
    operations: tuple[Operation, ...] = ()
    notes: tuple[Note, ...] = ()


def step(case: Case) -> Moved:
    """The handover as it should be now; the same again while something is awaited."""
    match case.handover.step:
        case Step.BACKUP | Step.DEMOTE:
            return _before_harm(case)
        case Step.WITHDRAW:
            return _withdraw(case)
        case Step.STOP | Step.FENCE:
            return _end(case)
        case Step.CATCH_UP:
            return _catch_up(case)
        case Step.PROMOTE:
            return _promote(case)
        case _:
            return Moved(case.handover)


def enter(handover: Handover, step: Step, **changes: object) -> Handover:
    """The handover at another step."""
    if step not in TRANSITIONS[handover.step]:
        raise AssertionError(f"handover {handover.number}: {handover.step} -> {step}")
    return replace(handover, step=step, waits="", **changes)  # type: ignore[arg-type]


def abandon(handover: Handover, reason: str) -> Moved:
    """Give up."""
    note = Note(f"state.{handover.kind}_abandoned", reason, handover.out, handover.because)
    return Moved(enter(handover, Step.ABANDONED, reason=reason), notes=(note,))


def command_key(handover: Handover) -> str:
    """The key of the command a step waits for."""
    tries = f"-{handover.attempt}" if handover.step is Step.PROMOTE else ""
    return f"{handover.step}-{handover.number}{tries}"


def wish(tenure: Tenure, state: State) -> tuple[str, str, SideCommand] | None:
    """The command a handover waits for, if it is one: where, its key, and what to run."""
    handover = tenure.changing
    if handover is None:
        return None
    argv, seconds, who = {
        Step.BACKUP: (state.backup, BACKUP_SECONDS, handover.out),
        Step.DEMOTE: (state.demote, DEMOTE_SECONDS, handover.out),
        Step.PROMOTE: (state.switchover, SWITCHOVER_SECONDS, handover.successor),
    }.get(handover.step, (None, 0.0, ""))
    if argv is None:
        return None
    promoting = handover.step is Step.PROMOTE
    environment = {
        "VOLERY_TERM": str(handover.term if promoting else tenure.term),
        "VOLERY_ROLE": "primary",
    }
    return who, command_key(handover), SideCommand(tuple(argv), environment, seconds)


def _answer(case: Case, identity: str) -> Answer | None:
    seen = case.world.observed.get(identity)
    return seen.commands.get(command_key(case.handover)) if seen else None


def _waits(case: Case, why: str) -> Moved:
    return Moved(replace(case.handover, waits=why))


def _before_harm(case: Case) -> Moved:
    """The primary still serves: run its command, and make sure that somebody can take over."""
    handover, state = case.handover, case.state
    unsure = _unsure(case)
    if unsure is not None:
        return unsure
    argv = state.backup if handover.step is Step.BACKUP else state.demote
    answer = _answer(case, handover.out) if argv else Answer("yes")
    if answer is None or answer.state == "waiting":
        return _waits(case, f"{handover.step} of {handover.out} runs")
    if answer.state != "yes":
        why = f"{handover.step} of {handover.out} failed: {answer.text}"
        return abandon(handover, why) if answer.state == "no" else _give_up(case, why)
    if not _ready_replicas(case):
        why = "no replica is in sync"
        return _give_up(case, why) if case.age("replica") >= REPLICA_SECONDS else _waits(case, why)
    if handover.step is Step.BACKUP:
        return Moved(enter(handover, Step.DEMOTE)) if case.given.has_room else _waits(case, NO_ROOM)
    if argv and _lags(case, answer) and case.age("lag") < LAG_SECONDS:
        return _waits(case, f"who takes over is not as far as {handover.out} yet")
    return Moved(enter(handover, Step.WITHDRAW))


def _give_up(case: Case, why: str) -> Moved:
    """Nobody can take over. A primary that may be demoted takes writes again when it is started
    again, which then comes first."""
    if case.handover.step is Step.BACKUP or case.state.demote is None:
        return abandon(case.handover, why)
    return Moved(enter(case.handover, Step.WITHDRAW, reason=why))


def _unsure(case: Case) -> Moved | None:
    """What follows when the primary is not known to be one now, or is one that lost its data or its
    disk; None while it is as it was."""
    out = case.handover.out
    primary = member(case.world, out)
    why = loss(case.world, case.service, case.state, case.tenure, case.given)
    lost = f"{out} is lost: {why or 'it is gone'}"
    if primary is not None and primary.role == "primary":
        return abandon(case.handover, lost) if why else None
    if primary is None or primary.dead or (why and _ready_replicas(case)):
        return abandon(case.handover, lost)
    if why:
        return _give_up(case, lost)
    return _waits(case, f"the role of {out} is {primary.role or 'unknown'}")


def _ready_replicas(case: Case) -> list[str]:
    found = replicas(members(case.world, case.service.name), case.tenure)
    return [item.id for item in found]


def _lags(case: Case, answer: Answer) -> bool:
    """Whether no replica, or not the one asked for, is known to have all that the demoted primary
    has."""
    primary = member(case.world, case.handover.out)
    found = replicas(members(case.world, case.service.name), case.tenure)
    if primary is None or primary.seen is None or (primary.seen.asked_at or 0.0) < answer.at:
        return True
    asked = [item for item in found if item.id == case.handover.to]
    return not any(item.position >= primary.position for item in asked or found)


def _withdraw(case: Case) -> Moved:
    handover = case.handover
    out = member(case.world, handover.out)
    if out is None or out.dead:
        return _dead(case)
    if out.item.intent == "run":
        because = _because(handover)
        changed = replace(out.item, intent="drain", since=case.given.now, because=because)
        return Moved(handover, (Operation("drain", changed, because, handover.cause, True),))
    late = case.age("withdraw") >= WITHDRAW_SECONDS
    if out.item.intent == "stop" or case.given.withdrawn(out.id) or late:
        return Moved(enter(handover, Step.STOP))
    return _waits(case, "the data plane turns away from it")


def _end(case: Case) -> Moved:
    """Stop it, or kill it, until the engine says that it is dead."""
    handover, kills = case.handover, case.handover.step is Step.FENCE
    if dead(case.world, handover.out):
        return _dead(case)
    out = member(case.world, handover.out)
    if out is not None and (out.item.intent != "stop" or (kills and not out.item.fenced)):
        because = _because(handover)
        changed = replace(
            out.item, intent="stop", fenced=kills, since=case.given.now, because=because
        )
        return Moved(handover, (Operation("stop", changed, because, handover.cause, harms=True),))
    return _waits(case, f"{handover.out} is not dead yet")


def _because(handover: Handover) -> str:
    return handover.because if not handover.reason else f"given up: {handover.reason}"


def _dead(case: Case) -> Moved:
    """Somebody takes over, or, where that was given up, it starts again as what it was."""
    handover = case.handover
    if handover.reason:
        return abandon(handover, handover.reason)
    note = Note("state.fenced", f"{handover.out} is dead", handover.out, handover.because)
    fenced = (note,) if handover.step is Step.FENCE else ()
    return Moved(enter(handover, Step.CATCH_UP), notes=fenced)


def _catch_up(case: Case) -> Moved:
    handover = case.handover
    out = member(case.world, handover.out)
    if out is not None and not out.dead and not (handover.returns and out.role != "primary"):
        return Moved(enter(handover, Step.FENCE))
    again = member(case.world, handover.successor)
    if again is not None and again.role == "primary":  # it is one already, late
        return Moved(enter(handover, Step.PROMOTE, attempt=handover.attempt + 1))
    found: Choice = choose(
        case.world, case.service, case.tenure, handover, case.given, case.state.failover
    )
    if found.successor is None:
        return Moved(replace(handover, waits=found.waits, returns=found.returns))
    if found.successor.id != handover.successor and not dead(case.world, handover.successor):
        # The one tried before may have become the primary behind our back.
        return Moved(_over(handover, handover.successor))
    note = Note(
        "state.promoting",
        f"{found.successor.id} becomes the primary in term {handover.term}",
        found.successor.id,
        found.because,
        found.numbers,
    )
    changed = enter(
        handover, Step.PROMOTE, successor=found.successor.id, attempt=handover.attempt + 1
    )
    return Moved(changed, notes=(note,))


def _promote(case: Case) -> Moved:
    handover = case.handover
    successor = member(case.world, handover.successor)
    if successor is None or successor.dead or not successor.staying:
        return _failed(case, f"{handover.successor} ended while it was promoted")
    answer = _answer(case, handover.successor)
    late = case.age("promote", handover.attempt) >= SWITCHOVER_SECONDS + PROVE_SECONDS
    if answer is None or answer.state == "waiting":
        if late:
            return _failed(case, "its switchover is not answered")
        return _waits(case, f"switchover of {handover.successor} runs")
    if successor.role == "primary":
        return Moved(enter(handover, Step.DONE))
    asked = successor.seen is not None and (successor.seen.asked_at or 0.0) >= answer.at
    if answer.state != "yes" and asked and successor.role is not None:
        return _failed(case, f"switchover of {handover.successor} failed: {answer.text}")
    if case.age("prove", handover.attempt) >= PROVE_SECONDS:
        said = successor.role or "unknown"
        return _failed(case, f"{handover.successor} was promoted and its role is {said}")
    return _waits(case, f"{handover.successor} does not say that it is the primary yet")


def _failed(case: Case, why: str) -> Moved:
    """Once more, with whoever is best then; one that failed often is killed first, and what it may
    have become is over with a new term."""
    handover = case.handover
    count = handover.failures.get(handover.successor, 0) + 1
    failures = handover.failures | {handover.successor: count}
    note = Note("state.promotion_failed", why, handover.successor, handover.because)
    changed = replace(handover, failures=failures)
    if count % TRIES:
        return Moved(enter(changed, Step.CATCH_UP), notes=(note,))
    return Moved(_over(changed, handover.successor), notes=(note,))


def _over(handover: Handover, tried: str) -> Handover:
    """What was tried is over: it is killed, and the next term begins."""
    term = handover.term + 1
    return enter(handover, Step.FENCE, out=tried, successor="", term=term, returns=True)
