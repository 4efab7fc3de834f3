"""Looks at the evidence about twice a second and keeps what it says of every rollout.

A look happens when the data plane has a new sample: what each group did since the last one moves
the judge's state, and both are stored together with the marks to count from next time. While a
rollout is paused, samples are put together before they are looked at: somebody may let it wait for
days, and every look is kept as long as the rollout is, to be replayed. A judgement
is used only while it is fresh: where nothing is measured any more, nothing is promoted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from volery.control.draft import Draft
from volery.control.sick import Evidence
from volery.decide import comparison as comparing
from volery.decide import judge
from volery.decide.asked import metric_lines, request_lines, streaks, with_metrics
from volery.decide.comparison import FROZEN_TICKS, Comparison, Past, is_compared
from volery.decide.evidence import Marks, Tick, arms, split
from volery.decide.judge import History
from volery.decide.world import World
from volery.model.evidence import Arm, Judgement, Sample
from volery.model.ports import Answer
from volery.model.state import Look, Phase, Rollout, ServiceState

FRESH_SECONDS = 5.0
"""An older judgement says nothing about now."""
QUIET_SECONDS = 10.0
LINES_SECONDS = 2.0
"""While the verdict stays, the lines about each metric are written so often."""
SAVE_SECONDS = 60.0
PAUSED_SECONDS, ALARMING_SECONDS = 10.0, 2.0
"""What a look covers while a rollout is paused, and where the new release fails meanwhile."""


def attended(world: World) -> frozenset[str]:
    """The services whose counters matter every second."""
    return frozenset(rollout.service for rollout in world.active_rollouts())


@dataclass(frozen=True)
class _Said:
    judgement: Judgement
    own: Judgement
    """Without custom metrics; its lines were written at `written`."""
    step: int
    looks: int
    at: float
    written: float


@dataclass(frozen=True)
class _Waiting:
    """What the groups did since the last look; `old` is what serves most where that is not the
    control."""

    canary: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)
    old: Arm = field(default_factory=Arm)
    seconds: float = 0.0
    ticks: int = 0


class EvidenceWatch:
    """What is known of each service's traffic, and of each rollout's evidence.

    What must survive is in the documents "comparison" (by rollout) and "past" (by service).
    """

    def __init__(self) -> None:
        self._number = -1
        self._marks: dict[str, Marks] = {}
        self._past: dict[str, History] = {}
        self._saved: dict[str, float] = {}
        self._recent: dict[str, deque[Arm]] = {}
        self._said: dict[str, _Said] = {}
        self._waiting: dict[str, _Waiting] = {}
        self.of_instances = Evidence()

    def judged(self, draft: Draft, rollout: Rollout, monotonic: float) -> Judgement | None:
        """What the evidence says of the rollout's present step, if that was seen just now and is
        recorded: a look that could not be written down counts for nothing."""
        said = self._said.get(rollout.id)
        if said is None or said.step != rollout.step or monotonic - said.at > FRESH_SECONDS:
            return None
        kept = draft.document("comparison", rollout.id)
        return said.judgement if kept is not None and kept.looks == said.looks else None

    @property
    def young(self) -> frozenset[str]:
        """The services whose first requests are waited for, to see how cold they are."""
        return frozenset(name for name, past in self._past.items() if past.youth is not None)

    def look(
        self, draft: Draft, sample: Sample, answers: Mapping[str, Answer], monotonic: float
    ) -> None:
        """Take in a new sample; nothing is compared without one."""
        self._note_live(draft)
        if sample.number in (self._number, 0):
            return
        self._number = sample.number
        self._forget(draft)
        watched = attended(draft.world) | self.young
        services = draft.world.services
        for name, part in split(sample, services).items():
            self._look_at(draft, services[name], part, answers, monotonic, name in watched)

    def _look_at(
        self,
        draft: Draft,
        service: ServiceState,
        sample: Sample,
        answers: Mapping[str, Answer],
        monotonic: float,
        watched: bool,
    ) -> None:
        name, rollout = service.name, draft.world.rollout_of(service.name)
        found = draft.document("comparison", rollout.id) if rollout else None
        before = self._marks.get(name) or (found.marks if found else None)
        tick, marks = arms(before, draft.world, service, sample, monotonic)
        busy = any(arm.requests for arm in tick.slots.values())
        if before is not None and not watched and not busy and tick.seconds < QUIET_SECONDS:
            return
        self._marks[name] = marks
        if before is None or tick.seconds <= 0:
            return
        self.of_instances.take(draft.world, service, tick, monotonic)
        if rollout is not None and is_compared(rollout, service):
            self._compare(draft, rollout, tick, marks, answers, monotonic)
        elif comparing.is_stable(rollout, service):
            self._remember(draft, service, tick, monotonic)

    def _remember(self, draft: Draft, service: ServiceState, tick: Tick, monotonic: float) -> None:
        """Learn from traffic that only the live release serves."""
        name = service.name
        parts = comparing.stable_parts(draft.world, service, tick)
        history = judge.remember(self.history(draft, name), parts, tick.seconds)
        self._past[name] = history
        whole = tick.slots.get(service.active, Arm())
        if whole.requests:
            self._recent.setdefault(name, deque(maxlen=FROZEN_TICKS)).append(whole)
        if monotonic - self._saved.setdefault(name, monotonic) >= SAVE_SECONDS:
            self._saved[name] = monotonic
            draft.put("past", name, Past(name, history))

    def _note_live(self, draft: Draft) -> None:
        """Tell the histories where another release is the live one now."""
        for name, service in draft.world.services.items():
            live, history = service.slots[service.active], self.history(draft, name)
            stable = comparing.is_stable(draft.world.rollout_of(name), service)
            if live is None or live.release == history.release or not stable:
                continue
            start = comparing.start_of(
                draft.world, service, lambda key: draft.document("comparison", key), draft.now
            )
            if start is None and not self._is_new(service):
                start = judge.UNKNOWN
            self._past[name] = judge.of_release(history, live.release, start)
            self._recent.pop(name, None)

    def _is_new(self, service: ServiceState) -> bool:
        """Whether the live group had not got a request yet when it was last looked at."""
        marks, group = self._marks.get(service.name), f"{service.name}~{service.active}"
        return (
            marks is not None
            and marks.sample.number > 0
            and not any(
                proxy.groups[group].requests
                for proxy in marks.sample.proxies.values()
                if group in proxy.groups
            )
        )

    def history(self, draft: Draft, service: str) -> History:
        """What is known of a service's stable traffic."""
        if service not in self._past:
            kept = draft.document("past", service)
            self._past[service] = kept.history if kept else judge.empty()
        return self._past[service]

    def _compare(
        self,
        draft: Draft,
        rollout: Rollout,
        tick: Tick,
        marks: Marks,
        answers: Mapping[str, Answer],
        monotonic: float,
    ) -> None:
        service = draft.world.services[rollout.service]
        deploy = service.config.deploy
        found = draft.document("comparison", rollout.id) or self._begun(draft, rollout, service)
        found = comparing.alone(found, rollout, service)
        found = comparing.mixed(comparing.in_step(found, rollout, service), draft.world, service)
        found = comparing.grown(found, draft.world, rollout)
        found = comparing.copied(found, rollout, service, tick)
        asked = streaks(rollout, deploy, answers, found.streaks, in_force=found.in_step > 0)
        due = self._due(draft, rollout, tick, found, asked != found.streaks)
        if due is None:
            self._said[rollout.id] = replace(self._said[rollout.id], at=monotonic)
            return
        both = due.canary, due.control
        found = replace(
            comparing.looked(found, rollout, both, due.seconds, due.old, due.ticks),
            marks=marks,
            streaks=asked,
        )
        before = self._lately(rollout, monotonic)
        own = comparing.judgement(found, rollout, service, before.own if before else None)
        metrics = metric_lines(rollout, deploy, answers, found.streaks)
        lines = (*metrics, *request_lines(rollout, deploy, answers))
        judgement = with_metrics(own, lines, found.streaks)
        kept = before is not None and own.lines is before.own.lines
        written = before.written if before and kept else monotonic
        self._said[rollout.id] = _Said(
            judgement, own, rollout.step, found.looks, monotonic, written
        )
        draft.put("comparison", rollout.id, found)
        draft.look(
            Look(
                rollout=rollout.id,
                number=found.looks,
                at=draft.now,
                seconds=due.seconds,
                step=rollout.step,
                weight=comparing.share(rollout, service),
                next_weight=comparing.next_weight(rollout, service),
                in_step=found.in_step,
                canary=due.canary,
                control=due.control,
                old=due.old,
                verdict=judgement.verdict,
                fresh=found.fresh,
                alarms_only=found.alarms_only,
                begins=found.begins,
                percent=comparing.own_share(rollout, service),
            )
        )

    def _due(
        self, draft: Draft, rollout: Rollout, tick: Tick, found: Comparison, news: bool
    ) -> _Waiting | None:
        """What is to be looked at now; None while a paused rollout has no news. What waits when the
        pause is over is left out: it was no part of the step."""
        waiting = self._waiting.pop(rollout.id, _Waiting())
        found = replace(found, ticks=found.ticks + waiting.ticks)
        canary, control = comparing.arms_of(draft.world, rollout, tick, found)
        old = comparing.old_group(rollout, tick, found)
        if rollout.phase is not Phase.PAUSED:
            return _Waiting(canary, control, old, tick.seconds, 1)
        whole = _Waiting(
            judge.together(waiting.canary, canary),
            judge.together(waiting.control, control),
            judge.together(waiting.old, old),
            waiting.seconds + tick.seconds,
            waiting.ticks + 1,
        )
        said = self._said.get(rollout.id)
        known = said is not None and (said.step, said.looks) == (rollout.step, found.looks)
        alarming = whole.canary.failures or whole.canary.exits
        if news or not known or whole.seconds >= (ALARMING_SECONDS if alarming else PAUSED_SECONDS):
            return whole
        self._waiting[rollout.id] = whole
        return None

    def _lately(self, rollout: Rollout, monotonic: float) -> _Said | None:
        """What was said of the present step, if its lines are not old yet."""
        said = self._said.get(rollout.id)
        fresh = said is not None and monotonic - said.written < LINES_SECONDS
        return said if fresh and said is not None and said.step == rollout.step else None

    def _begun(self, draft: Draft, rollout: Rollout, service: ServiceState) -> Comparison:
        recent = tuple(self._recent.get(rollout.service, ()))
        return comparing.begin(rollout, service, self.history(draft, rollout.service), recent)

    def _forget(self, draft: Draft) -> None:
        """Drop what belongs to rollouts that have ended and services that are gone."""
        going = {rollout.id for rollout in draft.world.active_rollouts()}
        self._said = {key: said for key, said in self._said.items() if key in going}
        self._waiting = {key: found for key, found in self._waiting.items() if key in going}
        gone = self._marks.keys() - draft.world.services.keys()
        for name in gone:
            for known in (self._marks, self._past, self._saved, self._recent):
                known.pop(name, None)
            draft.drop("past", name)
