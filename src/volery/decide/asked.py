"""What a rollout asks outside, and what the answers mean for it: gates, custom metrics, requests.

`calls` says what should be asked now; `gate_state`, `metric_lines` and `request_lines` say what the
answers add up to. A metric that cannot be had is missing: the rollout holds, and nobody is blamed.
A number both releases have is trouble of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from volery.decide.built import is_built
from volery.decide.routes import EdgePort
from volery.decide.situation import GateState
from volery.decide.staged import due, is_asked_for, is_gated
from volery.decide.stages import has_baseline
from volery.decide.world import World
from volery.model.deploy import STAGED, CustomMetric, Deploy, Gate
from volery.model.evidence import Judgement, Line
from volery.model.ports import (
    SYNTHETIC_CALLER,
    Answer,
    GateCall,
    MetricCall,
    Subject,
    SyntheticCall,
)
from volery.model.state import BASELINE, Phase, Rollout, ServiceState, SlotName, other
from volery.model.units import Condition

Call = GateCall | MetricCall | SyntheticCall
Answers = Mapping[str, Answer]
MEASURED = (Phase.SHIFTING, Phase.ANALYSING, Phase.PAUSED)
UNANSWERED = Answer("waiting")
TAG_HEADER = "baggage"
TAG = "volery-track=canary"


@dataclass(frozen=True)
class Streak:
    """How often in a row a metric was outside its limit, and the newest answer that counted."""

    failures: int = 0
    at: float = 0.0
    good: bool = False
    """Whether that vouches for the present step."""


def gate_key(rollout: Rollout, point: str, gate: Gate) -> str:
    """The key of one gate's call; another attempt asks anew, and so does a gate that was edited:
    no answer is taken for that of another gate."""
    question = sha256(gate.model_dump_json(exclude={"on_failure"}).encode()).hexdigest()[:12]
    return f"{rollout.id}/{point}/{rollout.attempt}/{question}"


def gates_at(deploy: Deploy, point: str) -> tuple[Gate, ...]:
    """The gates that stand at a point of a rollout."""
    kind = point.partition(":")[0]
    return tuple(gate for gate in deploy.gates if gate.when == kind)


def gate_state(rollout: Rollout, deploy: Deploy, point: str, answers: Answers) -> GateState:
    """Whether every gate at a point let it pass; the first one that did not speaks for all."""
    waiting = ""
    for gate in gates_at(deploy, point):
        answer = answers.get(gate_key(rollout, point, gate))
        if answer is None or answer.state == "waiting":
            waiting = waiting or f"waits for gate {_name(gate)}"
        elif answer.state != "yes":
            said = "said no" if answer.state == "no" else "gave no answer"
            text = f"gate {_name(gate)} {said}: {answer.text}"
            return GateState(gate.on_failure, text)
    return GateState("wait", waiting) if waiting else GateState()


def _name(gate: Gate) -> str:
    return gate.url if gate.url is not None else " ".join(gate.command or ())


def calls(
    world: World, edge_port: EdgePort, is_its_turn: Callable[[Rollout], bool]
) -> dict[str, Call]:
    """Everything that should be asked now, by key. No gate is asked while others go first: what it
    says then may not hold when it counts."""
    found: dict[str, Call] = {}
    for rollout in world.active_rollouts():
        if is_asked_for(rollout) and world.rollout_of(rollout.service) == rollout:
            if is_its_turn(rollout):
                found |= _gates(world, rollout)
            if rollout.phase in MEASURED and rollout.strategy in STAGED:
                found |= _metrics(world, rollout)
                found |= _requests(world, rollout, edge_port)
    return found


def _gates(world: World, rollout: Rollout) -> dict[str, Call]:
    point, service = due(rollout), world.services[rollout.service]
    if not is_gated(rollout) or not is_built(world.releases[rollout.to_release], rollout):
        return {}
    subject = _subject(world, rollout, rollout.slot)
    if rollout.phase is Phase.STARTING and len(subject.instances) < _wanted(service, rollout):
        return {}  # a step is asked about when there is something to ask about
    return {
        gate_key(rollout, point, gate): GateCall(
            gate,
            subject,
            _about(world, rollout, point),
            _root(world, service),
            _base_env(world, rollout),
        )
        for gate in gates_at(service.config.deploy, point)
    }


def _wanted(service: ServiceState, rollout: Rollout) -> int:
    """How many instances of the new release there should be before the first step."""
    group = service.slots.get(rollout.slot)
    return max(1, group.count if group else 0)


def _metrics(world: World, rollout: Rollout) -> dict[str, Call]:
    service = world.services[rollout.service]
    found: dict[str, Call] = {}
    for name, metric in service.config.deploy.metrics.items():
        for side, slot in _sides(world, rollout, metric).items():
            found[metric_key(rollout, name, side)] = MetricCall(
                metric,
                _subject(world, rollout, slot),
                _about(world, rollout, ""),
                _root(world, service),
                _base_env(world, rollout),
            )
    return found


def metric_key(rollout: Rollout, name: str, side: str) -> str:
    """The key of one metric's call; `side` is "new" or "old"."""
    return f"{rollout.id}/metric/{name}/{side}"


def _sides(world: World, rollout: Rollout, metric: CustomMetric) -> dict[str, SlotName]:
    if not metric.by_group:
        return {"new": rollout.slot}
    return {"new": rollout.slot, "old": control_slot(rollout, world.services[rollout.service])}


def control_slot(rollout: Rollout, service: ServiceState) -> SlotName:
    """The group a new one is compared with: its baseline if that gets requests, else the old."""
    beside = service.slots.get(BASELINE)
    there = beside is not None and beside.count > 0 and beside.weight > 0
    return BASELINE if has_baseline(rollout, service) and there else other(rollout.slot)


def _requests(world: World, rollout: Rollout, edge_port: EdgePort) -> dict[str, Call]:
    """Synthetic requests: to the new group by the way that requests of a canary take through the
    services, and as many by the way of everybody else's."""
    service = world.services[rollout.service]
    if rollout.strategy != "canary" or rollout.phase is Phase.PAUSED:
        return {}
    base = f"http://127.0.0.1:{edge_port(SYNTHETIC_CALLER, 'a', rollout.service)}"
    found: dict[str, Call] = {}
    for number, item in enumerate(service.config.deploy.synthetic, 1):
        for side in ("new", "old"):
            headers = {TAG_HEADER: TAG} if side == "new" else {}
            found[request_key(rollout, number, side)] = SyntheticCall(item, base, headers)
    return found


def request_key(rollout: Rollout, number: int, side: str) -> str:
    """The key of one kind of synthetic requests; `side` is "new" or "old"."""
    return f"{rollout.id}/synthetic/{number}/{side}"


def _subject(world: World, rollout: Rollout, slot: SlotName) -> Subject:
    group = world.services[rollout.service].slots.get(slot)
    ready = {
        item.id: world.observed[item.id].address or ""
        for item in world.instances_of(rollout.service, slot)
        if item.intent == "run" and world.ready(item)
    }
    release = group.release if group else rollout.to_release
    track = group.track.value if group else "canary"
    known = world.releases.get(release)
    spec = known.spec if known else world.services[rollout.service].config
    return Subject(rollout.service, release, track, ready, spec.protocol)


def _about(world: World, rollout: Rollout, point: str) -> dict[str, str]:
    environment = world.environment
    assert environment is not None
    when, _, step = point.partition(":")
    about = {
        "app": environment.application.app,
        "environment": environment.name,
        "service": rollout.service,
        "release": rollout.to_release,
        "from_release": rollout.from_release or "",
        "rollout": rollout.id,
        "when": when,
        "step": step,
        "weight": f"{rollout.weight:g}",
    }
    return {key: value for key, value in about.items() if value}


def _root(world: World, service: ServiceState) -> str:
    return service.root or (world.environment.root if world.environment else "/")


def _base_env(world: World, rollout: Rollout) -> Mapping[str, str]:
    return world.base_env_of(world.releases[rollout.to_release])


# --- custom metrics -------------------------------------------------------------------------------


def streaks(
    rollout: Rollout,
    deploy: Deploy,
    answers: Answers,
    before: Mapping[str, Streak],
    *,
    in_force: bool,
) -> dict[str, Streak]:
    """How often in a row each metric was outside its limit, each answer counted once, and not while
    the old release has it too. None vouches for a step that was not yet `in_force` when it came: it
    was measured before that."""
    found = {}
    for name, metric in deploy.metrics.items():
        streak = before.get(name, Streak())
        answer = answers.get(metric_key(rollout, name, "new"))
        if answer is None or answer.value is None or answer.state != "yes":
            streak = replace(streak, good=False)
        elif answer.at != streak.at:  # or earlier, by the clock of a machine that began anew
            good = metric.limit.holds(answer.value)
            streak = Streak(0 if good else streak.failures + 1, answer.at, good and in_force)
        else:
            streak = replace(streak, good=streak.good and in_force)
        shared = _is_outside(metric, answers.get(metric_key(rollout, name, "old")))
        found[name] = replace(streak, failures=0) if shared else streak
    return found


def _is_outside(metric: CustomMetric, old: Answer | None) -> bool:
    """Whether the old release is known to be outside the limit."""
    value = old.value if old is not None and old.state == "yes" and metric.by_group else None
    return value is not None and not metric.limit.holds(value)


def metric_lines(
    rollout: Rollout, deploy: Deploy, answers: Answers, found: Mapping[str, Streak]
) -> tuple[Line, ...]:
    """What each custom metric says."""
    return tuple(
        _line(name, metric, rollout, answers, found.get(name, Streak()))
        for name, metric in deploy.metrics.items()
    )


def _line(
    name: str, metric: CustomMetric, rollout: Rollout, answers: Answers, streak: Streak
) -> Line:
    new = answers.get(metric_key(rollout, name, "new"))
    old = answers.get(metric_key(rollout, name, "old"))
    limit = said(metric.limit)
    if new is None or new.value is None or new.state != "yes":
        why = f": {new.text}" if new and new.text else ""
        return Line(name, "missing", f"{name} is not known{why}, limit {limit}")
    control = old.value if old and old.state == "yes" else None
    against = "" if control is None else f" against {control:g}"
    text = f"{name} {new.value:g}{against}, limit {limit}"
    line = Line(name, "good", text, new.value, control, metric.limit.value)
    if streak.good:
        return line
    if metric.limit.holds(new.value):
        return replace(line, state="undecided", text=f"{text}: not measured in this step yet")
    if metric.by_group and (old is None or old.state == "waiting"):
        return replace(line, state="undecided", text=f"{text}: the old release was not asked yet")
    if _is_outside(metric, old):
        return replace(line, state="undecided", text=f"{text}: the old release has it too")
    enough = streak.failures >= metric.failures
    times = f"{streak.failures} of {metric.failures} times in a row"
    return replace(line, state="bad" if enough else "undecided", text=f"{text}: {times}")


def request_lines(rollout: Rollout, deploy: Deploy, answers: Answers) -> tuple[Line, ...]:
    """How many requests of ours are in the evidence, by kind. Where one release gives no right
    answer to any, they are no question to judge it by."""
    if rollout.strategy != "canary":
        return ()
    found = []
    for number, item in enumerate(deploy.synthetic, 1):
        new, old = (
            answers.get(request_key(rollout, number, side), UNANSWERED) for side in ("new", "old")
        )
        counts = int(new.value or 0), int(old.value or 0)
        name = f"synthetic {item.method} {item.path}"
        state, text = _requests_said(new, old)
        found.append(Line(name, state, f"{name} {text}", n=counts[0], n_control=counts[1]))
    return tuple(found)


def _requests_said(new: Answer, old: Answer) -> tuple[Literal["good", "undecided", "missing"], str]:
    if "waiting" in (new.state, old.state):
        return "missing", "not answered yet"
    text = f"{new.text}; to the old release {old.text}"
    for answer, whose in ((old, "old"), (new, "new")):
        if answer.state != "yes":
            return "undecided", f"{text}: the {whose} release gives no right answer"
    return "good", text


def said(limit: Condition) -> str:
    """A condition as people write it."""
    if limit.unit == "fraction":
        return f"{limit.operator} {limit.value * 100:g} %"
    return f"{limit.operator} {limit.value:g}{' s' if limit.unit == 'seconds' else ''}"


def with_metrics(
    judged: Judgement, lines: tuple[Line, ...], found: Mapping[str, Streak]
) -> Judgement:
    """The judgement with the lines of custom metrics and of our requests: one that is bad aborts,
    one that is not good holds. A metric that was outside its limit when it was last known is
    suspicious."""
    if not lines:
        return judged
    suspicious = judged.suspicious or any(streak.failures for streak in found.values())
    judged = replace(judged, lines=(*judged.lines, *lines), suspicious=suspicious)
    bad = next((line for line in lines if line.state == "bad"), None)
    if bad is not None:
        reason = judged.reason if judged.verdict == "abort" else bad.text
        return replace(judged, verdict="abort", reason=reason, by_comparison=False)
    open_ = next((line for line in lines if line.state != "good"), None)
    if open_ is not None and judged.verdict == "promote":
        return replace(judged, verdict="continue", reason=f"waits: {open_.text}")
    if open_ is not None and judged.verdict == "continue":
        return replace(judged, reason=f"{judged.reason}; {open_.text}")
    return judged
