"""What happened to a service and why, in plain words: the ledger's lines, grouped by what they
belong to.

A *chapter* is one heal, one rollout, one change of the primary, the guard, or what belongs to none
of them; its lines say what was *seen*, what was *decided*, what was *done*, and how it *ended*. An
instance's own events belong to the heal that has to do with that instance, or to the handover that
has and is under way, else to the rollout that is. Nothing is added that is not in an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from volery.model.healing import IN_WORDS
from volery.model.state import Event

Part = Literal["seen", "decided", "done", "ended"]

PARTS: dict[str, Part] = {
    "instance.restarted": "seen",
    "instance.unstartable": "seen",
    "volume.trouble": "seen",
    "volume.well": "ended",
    "service.need_down": "seen",
    "service.need_back": "ended",
    "service.crash_loop": "seen",
    "machine.trouble": "seen",
    "environment.up": "decided",
    "environment.down": "decided",
    "service.scaled": "decided",
    "rollout.started": "decided",
    "rollout.rolling_back": "decided",
    "rollout.paused": "decided",
    "rollout.no_baseline": "decided",
    "rollout.done": "ended",
    "rollout.rolled_back": "ended",
    "rollout.failed": "ended",
    "heal.waits": "decided",
    "heal.withheld": "seen",
    "state.failover": "seen",
    "state.switchover": "decided",
    "state.promoting": "decided",
    "state.promotion_failed": "seen",
    "state.waits": "decided",
    "state.primary": "ended",
    "state.failover_abandoned": "ended",
    "state.switchover_abandoned": "ended",
}
"""What an event tells of; all others, of what was done."""
OF_ALL = ("machine.", "guard.", "environment.")
"""Events that belong to every service's story."""
ENDS = {
    "heal.helped": "it helped",
    "heal.not_helped": "it did not help",
    "heal.moot": "it did not matter any more",
    "rollout.done": "done",
    "rollout.rolled_back": "rolled back",
    "rollout.failed": "failed",
    "machine.trouble": "automation stands still",
    "state.primary": "done",
    "state.failover_abandoned": "abandoned",
    "state.switchover_abandoned": "abandoned",
}
HANDOVERS = ("state.failover", "state.switchover")
"""What begins a chapter about a change of the primary."""


@dataclass(frozen=True)
class Sentence:
    """One line of a chapter. `at` is Unix seconds."""

    at: float
    part: Part
    text: str


@dataclass(frozen=True)
class Chapter:
    """What belongs together. `about` is `heal`, `rollout`, `handover`, `guard`, `machine` or
    `service`; `id` names which one, and `outcome` is how it ended, "" if it goes on."""

    about: Literal["heal", "rollout", "handover", "guard", "machine", "service"]
    id: str
    title: str
    began: float
    outcome: str = ""
    sentences: tuple[Sentence, ...] = ()
    instances: frozenset[str] = field(default_factory=frozenset)


def story(events: Iterable[Event], service: str) -> list[Chapter]:
    """The chapters of a service in the order they began; `events` oldest first, of everybody."""
    chapters: dict[str, Chapter] = {}
    latest = ""
    for event in events:
        if event.service != service and not (event.service is None and _is_of_all(event)):
            continue
        key = _key(event) or _belongs_to(event, chapters.values())
        if not key:  # what belongs to nothing stands together until something else happens
            key = latest if latest.startswith("service ") else f"service {event.seq}"
        latest = key
        chapters[key] = _told(chapters.get(key), key, event)
    return list(chapters.values())


def _is_of_all(event: Event) -> bool:
    return event.kind.startswith(OF_ALL)


def _key(event: Event) -> str:
    """What an event says it belongs to."""
    for name in ("heal", "rollout"):
        if isinstance(event.data.get(name), str):
            machine = event.kind.startswith("machine.") or event.data.get("ailment") == "machine"
            return f"{'machine' if machine else name} {event.data[name]}"
    if event.kind.startswith("guard."):
        return f"guard {event.service or 'environment'}"
    return f"handover {event.seq}" if event.kind in HANDOVERS else ""


def _belongs_to(event: Event, chapters: Iterable[Chapter]) -> str:
    """The chapter that an instance's event, or one about its role, is part of, the newest first."""
    newest = list(chapters)[::-1]
    handover = next((c for c in newest if c.about == "handover" and not c.outcome), None)
    if handover and (event.kind.startswith("state.") or event.instance in handover.instances):
        return f"handover {handover.id}"
    if not event.kind.startswith("instance."):
        return ""
    opened = [item for item in newest if item.about in ("heal", "rollout")]
    for item in opened:
        if item.about == "heal" and event.instance in item.instances:
            return f"heal {item.id}"
    for item in opened:
        if not item.outcome:
            return f"{item.about} {item.id}"
    return ""


def _told(chapter: Chapter | None, key: str, event: Event) -> Chapter:
    if chapter is None:
        about, _, identity = key.partition(" ")
        chapter = Chapter(about, identity, _title(event), event.at)  # type: ignore[arg-type]
    mine = chapter.instances | ({event.instance} if event.instance else set())
    return replace(
        chapter,
        sentences=(*chapter.sentences, *_sentences(event)),
        outcome=ENDS.get(event.kind, chapter.outcome),
        instances=mine,
    )


def _title(event: Event) -> str:
    kind = event.data.get("ailment")
    if event.kind.startswith("heal.") and kind in IN_WORDS:
        return f"{event.instance}: {IN_WORDS[kind]}"
    return event.text.partition(": ")[2] if event.kind == "rollout.started" else event.text


def _sentences(event: Event) -> Sequence[Sentence]:
    if event.kind == "heal.started":
        done = str(event.data.get("done", ""))
        return (
            Sentence(event.at, "seen", event.cause or event.text),
            Sentence(event.at, "decided", f"{event.instance}: {done}" if done else event.text),
        )
    if event.kind in ENDS and event.kind.startswith("heal."):
        return (Sentence(event.at, "ended", f"{ENDS[event.kind]}: {event.cause or event.text}"),)
    if event.kind.startswith("guard."):
        return (Sentence(event.at, "decided", event.text),)
    return (Sentence(event.at, PARTS.get(event.kind, "done"), event.text),)
