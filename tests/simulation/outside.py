"""The simulated `Outside`: gates, metrics and synthetic requests on virtual time.

Whoever is asked answers yes, no, nothing usable, or hangs until the time limit, as `replies` says:
by default a seeded choice for each question. For a metric, yes is a number inside its limit and no
one outside. What was asked is counted, so that a history can tell a gate asked twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulation.adapters import Timeline
from volery.model.ports import Answer, GateCall, MetricCall, OutsideCall, SyntheticCall
from volery.model.units import Condition

Reply = Literal["yes", "no", "broken", "hang"]
Replies = Callable[[str, OutsideCall], Reply]


@dataclass(eq=False)
class Question:
    """One key that is wished."""

    key: str
    call: OutsideCall
    since: float
    answer: Answer = field(default_factory=lambda: Answer("waiting"))


class SimOutside:
    """Asks nobody."""

    def __init__(self, line: Timeline, replies: Replies | None = None) -> None:
        self.line = line
        self.replies = replies or self._any
        self.wake: Callable[[], None] = lambda: None
        self.asked: Counter[str] = Counter()
        self._questions: dict[str, Question] = {}

    def wish(self, calls: Mapping[str, OutsideCall]) -> None:
        self._questions = {
            key: question
            for key, question in self._questions.items()
            if same_question(question.call, calls.get(key))
        }
        for key, call in calls.items():
            if key in self._questions:
                self._questions[key].call = call
            else:
                self._ask(key, call)

    def observe(self) -> Mapping[str, Answer]:
        return {key: self._answer(question) for key, question in self._questions.items()}

    def forget(self) -> None:
        """The control plane died, and its questions with it."""
        self._questions.clear()

    def _any(self, key: str, call: OutsideCall) -> Reply:
        kinds: tuple[Reply, ...] = ("yes", "no", "broken", "hang")
        return self.line.random.choices(kinds, (85, 5, 5, 5))[0]

    def _ask(self, key: str, call: OutsideCall) -> None:
        question = self._questions[key] = Question(key, call, self.line.time)
        match call:
            case GateCall():
                self._later(question, call.gate.timeout, self._gate)
            case MetricCall():
                self._later(question, call.metric.timeout, self._metric)
            case SyntheticCall():
                pass

    def _later(
        self, question: Question, limit: float, act: Callable[[Question, Reply], None]
    ) -> None:
        """The answer comes within the limit, unless nobody is interested any more."""
        self.asked[question.key] += 1
        reply = self.replies(question.key, question.call)
        quick = self.line.random.uniform(0.01, min(1.0, limit))
        self.line.after(
            limit if reply == "hang" else quick,
            lambda: act(question, reply) if self._is_wished(question) else None,
        )

    def _is_wished(self, question: Question) -> bool:
        return self._questions.get(question.key) is question

    def _gate(self, question: Question, reply: Reply) -> None:
        self._tell(question, reply, None)

    def _metric(self, question: Question, reply: Reply) -> None:
        call = question.call
        assert isinstance(call, MetricCall)
        limit = call.metric.limit
        if reply in ("yes", "no"):
            self._tell(question, "yes", measured(limit, reply))
        else:
            self._tell(question, reply, None)

        def again() -> None:
            if self._is_wished(question):
                self._later(question, call.metric.timeout, self._metric)

        self.line.after(call.metric.every, again)

    def _tell(self, question: Question, reply: Reply, value: float | None) -> None:
        state = "broken" if reply == "hang" else reply
        text = "no answer in time" if reply == "hang" else f"simulated: {reply}"
        question.answer = Answer(state, text, value, self.line.time)
        self.wake()

    def _answer(self, question: Question) -> Answer:
        if not isinstance(question.call, SyntheticCall):
            return question.answer
        sent = int((self.line.time - question.since) * question.call.synthetic.rate)
        if not sent:
            return question.answer
        return Answer("yes", f"{sent} sent, 0 failed", float(sent), self.line.time)


def measured(limit: Condition, reply: Reply) -> float:
    """A value that keeps a limit, or one that does not."""
    below, above = limit.value - 1.0, limit.value + 1.0
    upper = limit.operator in ("<", "<=")
    return below if (reply == "yes") is upper else above


def same_question(before: OutsideCall, now: OutsideCall | None) -> bool:
    if isinstance(before, MetricCall) and isinstance(now, MetricCall):
        return (before.metric, before.subject.release, before.subject.track) == (
            now.metric,
            now.subject.release,
            now.subject.track,
        )
    return type(before) is type(now)
