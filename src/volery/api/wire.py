"""The JSON of the contract: the only place that knows its field names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volery.api import wire_guard
from volery.api.logs import LogLine
from volery.decide import claims
from volery.decide.comparison import Comparison
from volery.decide.dependence import absent, down, lacks, state_for_want
from volery.decide.explain import decisions, other_policy, policy_lines, summary
from volery.decide.forecast import Forecast
from volery.decide.plan import Step
from volery.decide.removed import why_there
from volery.decide.story import Chapter
from volery.decide.world import World, number_of
from volery.model.application import SteadyState
from volery.model.evidence import Line
from volery.model.healing import IN_WORDS
from volery.model.moment import time
from volery.model.ports import Observation
from volery.model.state import (
    SLOTS,
    EnvironmentState,
    Event,
    Instance,
    Look,
    Release,
    Rollout,
    ServiceState,
    SlotName,
    Track,
)
from volery.model.tenure import Handover

ODDS_MAX = 1e12
Json = dict[str, Any]


def rollout(item: Rollout) -> Json:
    """One rollout."""
    return {
        "id": item.id,
        "service": item.service,
        "from": item.from_release,
        "to": item.to_release,
        "strategy": item.strategy,
        "cause": item.cause,
        "group": item.group,
        "slot": item.slot,
        "phase": item.phase.value,
        "paused_for": item.paused_for or None,
        "weight": number(item.weight),
        "step": item.step,
        "steps": item.steps,
        "passed": item.passed,
        "verdict": item.verdict,
        "reason": item.reason,
        "evidence": [line(one) for one in item.evidence],
        "superseded_by": item.superseded_by or None,
        "log": list(item.tail),
        "by": item.by,
        "started_at": time(item.created_at),
        "finished_at": time(item.finished_at),
        "seconds": {
            key: round(item.seconds.get(key, 0.0), 3) for key in ("build", "test", "start", "shift")
        },
    }


def number(value: float) -> float:
    """A number as people write it: whole ones without a point."""
    return int(value) if value == int(value) else value


def line(item: Line) -> Json:
    """What the evidence on one metric says."""
    return {
        "metric": item.metric,
        "state": item.state,
        "text": item.text,
        "value": item.value,
        "control": item.control,
        "limit": item.limit,
        "n": item.n,
        "n_control": item.n_control,
        "evidence": bounded(item.evidence),
        "confidence": bounded(item.confidence),
        "needed": bounded(item.needed),
    }


def bounded(odds: float) -> float:
    """Odds as a number that JSON knows, to three digits."""
    return float(f"{min(odds, ODDS_MAX):.3g}")


def groups(world: World, item: Rollout) -> list[Json]:
    """The groups of a rollout's service with what each gets and what is there of it."""
    state = world.services.get(item.service)
    if state is None:
        return []
    found = []
    for name, slot in state.slots.items():
        if slot is None:
            continue
        there = world.instances_of(item.service, name)
        shown = [instance(world, state, one) for one in there]
        found.append(
            {
                "slot": name,
                "track": slot.track.value,
                "release": slot.release,
                "weight": number(slot.weight),
                "mirror": number(slot.mirror),
                "desired": slot.count,
                "ready": sum(one["state"] == "ready" for one in shown),
                "instances": shown,
            }
        )
    return found


def event(item: Event) -> Json:
    """One line of the ledger."""
    return {
        "seq": item.seq,
        "at": time(item.at),
        "kind": item.kind,
        "service": item.service,
        "release": item.release,
        "instance": item.instance,
        "text": item.text,
        "cause": item.cause,
        "data": item.data,
    }


def story(service: str, chapters: Sequence[Chapter]) -> Json:
    """What happened to a service and why."""
    return {
        "service": service,
        "chapters": [
            {
                "about": item.about,
                "id": item.id,
                "title": item.title,
                "began": time(item.began),
                "outcome": item.outcome or None,
                "sentences": [
                    {"at": time(one.at), "part": one.part, "text": one.text}
                    for one in item.sentences
                ],
            }
            for item in chapters
        ],
    }


def log_line(item: LogLine) -> Json:
    """One line of `logs`."""
    found = {"at": time(item.at), "instance": item.instance, "text": item.text}
    return found | {"crashed": item.crashed}


def release(item: Release) -> Json:
    """One release in `releases`."""
    return {
        "release": item.id,
        "state": {"new": "kept", "built": "kept", "gone": "kept"}.get(item.state, item.state),
        "created_at": time(item.created_at),
        "by": item.by,
        "reason": item.reason,
    }


def releases(world: World, service: str) -> Json:
    """Every release of a service that is there or was, newest first; the warm one is named."""
    mine = sorted(
        (
            item
            for item in world.releases.values()
            if item.service == service and item.state != "gone"
        ),
        key=lambda item: item.created_at,
        reverse=True,
    )
    state, found = world.services.get(service), [release(item) for item in mine]
    warm = _warm(state) if state else set()
    for line in found:
        if line["release"] in warm and line["state"] == "kept":
            line["state"] = "warm"
        elif state is None and line["state"] == "live":
            line["state"] = "kept"
    return {"service": service, "releases": found}


def _warm(service: ServiceState) -> set[str]:
    idle = (service.slots.get(slot) for slot in SLOTS if slot != service.active)
    return {slot.release for slot in idle if slot and service.warm_until and slot.count}


def step(item: Step) -> Json:
    """One line of a plan."""
    return {
        "wave": item.wave,
        "verb": item.verb,
        "service": item.service,
        "release": item.release or None,
        "replaces": item.replaces or None,
        "strategy": item.strategy or None,
        "because": item.because,
        "blast_radius": item.blast_radius or None,
        "refused": item.refused or None,
        "then": item.then or None,
        "forecast": forecast(item.forecast) if item.forecast else None,
        "text": str(item),
    }


def forecast(item: Forecast) -> Json:
    """What to expect of a canary at today's traffic."""
    return {
        "requests_per_second": item.rate,
        "steps": [vars(one) for one in item.steps],
        "harms": [vars(one) for one in item.harms],
        "text": item.lines(),
    }


def explanation(
    item: Rollout, comparison: Comparison, looks: Sequence[Look], promise: SteadyState | None
) -> Json:
    """A rollout's decisions, replayed from what was measured."""
    policy = other_policy(comparison, promise) if promise else comparison.policy
    found = decisions(comparison, looks, policy)
    return {
        "rollout": item.id,
        "policy": policy_lines(policy),
        "looks": len(looks),
        "decisions": [
            {
                "after": round(one.after, 3),
                "step": one.step,
                "weight": number(round(one.weight, 4)),
                "verdict": one.judgement.verdict,
                "reason": one.judgement.reason,
                "taken": one.taken,
                "evidence": [line(metric) for metric in one.judgement.lines],
            }
            for one in found
        ],
        "summary": summary(found, item),
    }


def status(world: World, processes: Json, gateway_ready: bool) -> Json:
    """The whole environment at a glance."""
    environment = world.environment
    assert environment is not None
    gateway = environment.application.gateway
    return {
        "app": environment.application.app,
        "environment": environment.name,
        "engine": environment.application.environments[environment.name].engine,
        "gateway": {
            "url": gateway_url(environment),
            "state": "ready" if gateway_ready and environment.running else "down",
            "port": gateway.port,
        },
        "dashboard": None,
        "processes": processes,
        "guard": wire_guard.glance(world),
        "services": {name: service(world, state) for name, state in sorted(world.services.items())},
    }


def gateway_url(environment: EnvironmentState) -> str:
    """Where users come in, as a URL that can be opened on this machine."""
    gateway = environment.application.gateway
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(gateway.host, gateway.host)
    return f"http://{host}:{gateway.port}"


def service(world: World, state: ServiceState) -> Json:
    """One service of `status`."""
    running = world.rollout_of(state.name)
    live = state.live
    missing = lacks(state, down(world) | absent(world))
    return {
        "state": state_for_want(service_state(world, state), missing),
        "team": state.config.team,
        "protocol": state.config.protocol,
        "release": live.release if live else None,
        "desired": state.scale,
        "url": _url(world, state.name),
        "start_failures": state.start_failures,
        "restarts": _restarts(world, state),
        "trouble": _trouble(world, state) or None,
        "removed": why_there(world, state),
        "primary": _primary(world, state),
        "needs_down": [
            {"need": lack.need, "importance": lack.importance, "text": lack.text}
            for lack in missing
        ],
        "heal": heal(world, state.name),
        "instances": [instance(world, state, item) for item in world.instances_of(state.name)],
        "rollout": rollout(running) if running else None,
    } | wire_guard.of_service(world, state)


def _restarts(world: World, state: ServiceState) -> int:
    """How often its instances ended and were started again, those killed for a claim included."""
    tenure = world.tenures.get(state.name)
    killed = sum(claim.times for claim in tenure.claims.values()) if tenure else 0
    return killed + sum(_ended(world, item) for item in world.instances_of(state.name))


def _ended(world: World, item: Instance) -> int:
    seen = world.observed.get(item.id)
    return seen.restarts if seen else item.restarts


def _trouble(world: World, state: ServiceState) -> str:
    """What does not come up, and why; else who claims to be the primary and is not."""
    if state.start_trouble:
        return state.start_trouble
    if state.live is None and world.rollout_of(state.name) is None:
        return _never_served(world, state.name)
    found = claims.open_claims(world, state.name)
    return "; ".join(claims.said(identity, claim) for identity, claim in found.items())


def _never_served(world: World, service: str) -> str:
    """What became of the release that was to be the first one of a service."""
    ended = [item for item in world.rollouts.values() if item.service == service]
    if not ended:
        return ""
    newest = max(ended, key=lambda item: number_of(item.id))
    words = {"failed": "could not be built", "refused": "was refused"}
    became = words.get(world.releases[newest.to_release].state, "was taken back")
    return f"{newest.to_release} {became}: {newest.reason}"


def _primary(world: World, state: ServiceState) -> Json | None:
    """Who is the primary, in which term, and what is under way; null where there are no roles."""
    tenure = world.tenures.get(state.name)
    if tenure is None:
        return None
    change = tenure.changing
    return {
        "instance": tenure.primary,
        "term": tenure.term,
        "since": time(tenure.since),
        "waits": tenure.waits or None,
        "handover": _handover(tenure.handover) if tenure.handover else None,
        "changing": change is not None,
    }


def _handover(change: Handover) -> Json:
    return {
        "number": change.number,
        "kind": change.kind,
        "step": change.step.value,
        "from": change.out,
        "to": change.successor or change.to or None,
        "term": change.term,
        "because": change.because,
        "waits": change.waits or None,
        "reason": change.reason or None,
    }


def heal(world: World, service: str) -> Json | None:
    """The newest heal of a service, while it is open or if it did not help."""
    found = world.heals_of(service)
    if not found or (found[-1].ended and found[-1].verdict != "not_helped"):
        return None
    item = found[-1]
    return {
        "id": item.id,
        "ailment": item.kind,
        "instance": item.instance,
        "successor": item.successor or None,
        "phase": item.phase,
        "verdict": item.verdict or None,
        "text": f"{IN_WORDS[item.kind]}: {item.text}",
        "why": item.why or None,
        "began": time(item.created_at),
    }


def service_state(world: World, state: ServiceState) -> str:
    """healthy, degraded, down, deploying, or leaving. What was scaled to nothing serves nobody:
    down."""
    if state.removing and state.name not in world.staying:
        return "leaving"
    if world.rollout_of(state.name) is not None:
        return "deploying"
    there = world.instances_of(state.name, state.active)
    ready = sum(item.intent == "run" and world.ready(item) for item in there)
    if not ready or not state.scale:
        return "down"
    return "healthy" if ready >= state.scale else "degraded"


def _url(world: World, name: str) -> str | None:
    environment = world.environment
    assert environment is not None
    mine = [route for route in world.routes if route.service == name]
    if not mine:
        return None
    best = min(mine, key=lambda route: (route.host is not None, len(route.path)))
    base = gateway_url(environment)
    if best.host is not None:
        base = f"http://{best.host}:{environment.application.gateway.port}"
    return base + (best.path if best.path != "/" else "")


def instance(world: World, state: ServiceState, item: Instance) -> Json:
    """One instance of `status`."""
    seen = world.observed.get(item.id)
    slot = state.slots.get(item.slot)
    return {
        "id": item.id,
        "release": item.release,
        "track": (slot.track if slot else Track.STABLE).value,
        "state": _state(world, item, seen),
        "pid": seen.pid if seen else None,
        "address": seen.address if seen else None,
        "restarts": _ended(world, item),
        "role": _role(world, item, seen),
        "weight": number(slot.weight) if slot else 0,
        "warm_until": time(state.warm_until) if slot and _is_warm(state, item.slot) else None,
        "started_at": time(seen.started_at if seen else item.created_at),
        "detail": seen.detail if seen else item.unstartable,
        "volume": (seen.volume if seen else "") or None,
        "limits": dict(seen.enforced) if seen else {},
    }


def _state(world: World, item: Instance, seen: Observation | None) -> str:
    """One that is healthy and not in sync does not serve."""
    state = instance_state(item, seen)
    if state != "ready" or world.ready(item):
        return state
    return "unready" if item.proven else "starting"


def _role(world: World, item: Instance, seen: Observation | None) -> str | None:
    """primary, replica or syncing; null while it is unknown, and where there are no roles."""
    known = seen is not None and seen.unsure_since is None and world.has_roles(item)
    return seen.role if known and seen else None


def _is_warm(state: ServiceState, slot: SlotName) -> bool:
    """Whether a group is only kept for a quick way back."""
    return slot in ("a", "b") and slot != state.active


def instance_state(item: Instance, seen: Observation | None) -> str:
    """starting, ready, unready, draining, stopping or failed."""
    if item.intent != "run":
        return "draining" if item.intent == "drain" else "stopping"
    if seen is None:
        return "failed" if item.unstartable else "starting"
    return "failed" if seen.state == "exited" else seen.state
