"""The judge: is a new release no worse for users than the old one? Pure mathematics.

`begin` a judgement with a `Policy` and the `History` of stable traffic, `look` at one tick of both
arms (and, where the control is a baseline, at the old group `beside` them), call `step` when the
release is to get a larger share, `in_force` when it has it and `joined` when it gets more
instances, and `judge` whenever you like: looking often costs no honesty. `decide` says the same
without `lines_of`. `enough` and `detects` forecast, `replay` explains. What is tested, and how well
it works, is in docs/explanation/how-releases-are-judged.md and docs/benchmarks-judge.md.
"""

from volery.decide.judge.beside import beside
from volery.decide.judge.forecast import detects, enough
from volery.decide.judge.history import (
    History,
    empty,
    of_release,
    remember,
    requests_per_second,
)
from volery.decide.judge.lines import lines_of
from volery.decide.judge.look import look, together
from volery.decide.judge.policy import Policy, policy_of
from volery.decide.judge.replay import replay
from volery.decide.judge.starts import UNKNOWN, Start, expected
from volery.decide.judge.state import State, begin, evidence, in_force, joined, step
from volery.decide.judge.verdict import decide, judge

__all__ = [
    "UNKNOWN",
    "History",
    "Policy",
    "Start",
    "State",
    "begin",
    "beside",
    "decide",
    "detects",
    "empty",
    "enough",
    "evidence",
    "expected",
    "in_force",
    "joined",
    "judge",
    "lines_of",
    "look",
    "of_release",
    "policy_of",
    "remember",
    "replay",
    "requests_per_second",
    "step",
    "together",
]
