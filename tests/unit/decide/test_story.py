"""The ledger's lines as a story."""

from __future__ import annotations

from typing import Any

from volery.decide.story import Chapter, story
from volery.model.state import Event


def event(at: float, kind: str, text: str = "", **about: Any) -> Event:
    return Event(at, kind, text or kind, service=about.pop("service", "web"), seq=int(at), **about)


HEAL = {"heal": "web-h1", "ailment": "hung", "done": "taken out of rotation and replaced"}
HEALED = [
    event(1, "heal.started", instance="web-1-1", cause="it hangs: no answer", data=HEAL),
    event(2, "instance.started", "web-1-4 starts", instance="web-1-4"),
    event(3, "instance.draining", "web-1-1 is taken out of rotation", instance="web-1-1"),
    event(4, "heal.watching", "web-1-4 serves", instance="web-1-4", data=HEAL),
    event(9, "heal.helped", "h1", instance="web-1-4", cause="not seen again", data=HEAL),
]


def lines(chapter: Chapter) -> list[tuple[str, str]]:
    return [(one.part, one.text) for one in chapter.sentences]


def test_a_heal_is_one_chapter_from_what_was_seen_to_whether_it_helped() -> None:
    (chapter,) = story(HEALED, "web")
    assert (chapter.about, chapter.id, chapter.outcome) == ("heal", "web-h1", "it helped")
    assert lines(chapter) == [
        ("seen", "it hangs: no answer"),
        ("decided", "web-1-1: taken out of rotation and replaced"),
        ("done", "web-1-4 starts"),
        ("done", "web-1-1 is taken out of rotation"),
        ("done", "web-1-4 serves"),
        ("ended", "it helped: not seen again"),
    ]


def test_what_comes_late_still_belongs_to_its_heal() -> None:
    late = event(20, "instance.gone", "web-1-1 is gone", instance="web-1-1")
    (chapter,) = story([*HEALED, late], "web")
    assert lines(chapter)[-1] == ("done", "web-1-1 is gone")


def test_a_rollout_takes_what_its_instances_do() -> None:
    about = {"rollout": "web-r2"}
    found = story(
        [
            event(1, "rollout.started", "web: deploy to web@2 (rolling)", data=about),
            event(2, "instance.started", "web-2-1 starts", instance="web-2-1"),
            event(3, "rollout.done", "web: done", data=about),
        ],
        "web",
    )
    assert [(item.about, item.title, item.outcome) for item in found] == [
        ("rollout", "deploy to web@2 (rolling)", "done")
    ]
    assert len(found[0].sentences) == 3


def test_other_services_are_left_out_and_the_machines_trouble_is_not() -> None:
    found = story(
        [
            event(1, "instance.started", service="mail", instance="mail-1-1"),
            event(2, "machine.trouble", service=None, data={"heal": "machine-h1"}),
        ],
        "web",
    )
    assert [(item.about, item.outcome) for item in found] == [
        ("machine", "automation stands still")
    ]


def test_what_belongs_to_nothing_stands_together() -> None:
    found = story(
        [event(1, "service.scaled"), event(2, "service.need_down"), *HEALED, event(30, "x.y")],
        "web",
    )
    assert [item.about for item in found] == ["service", "heal", "service"]
    assert len(found[0].sentences) == 2


def test_a_failover_is_one_chapter_from_the_loss_to_the_new_primary() -> None:
    failover = [
        event(1, "state.failover", "web-0 is lost: it ended", instance="web-0"),
        event(2, "state.fenced", "web-0 is dead", instance="web-0"),
        event(3, "state.promoting", "web-1 becomes the primary", instance="web-1"),
        event(4, "instance.started", "web-0 starts", instance="web-0"),
        event(5, "state.primary", "web-1 is the primary", instance="web-1"),
    ]
    later = [
        event(60, "instance.ready", "web-0 is ready", instance="web-0"),
        event(90, "state.switchover", "asked for by sam", instance="web-1"),
        event(91, "state.switchover_abandoned", "no replica is in sync", instance="web-1"),
    ]
    chapters = story([*failover, *later], "web")
    assert [(one.about, one.outcome) for one in chapters] == [
        ("handover", "done"),
        ("service", ""),
        ("handover", "abandoned"),
    ]
    assert [part for part, _ in lines(chapters[0])] == ["seen", "done", "decided", "done", "ended"]
    assert [part for part, _ in lines(chapters[2])] == ["decided", "ended"]
