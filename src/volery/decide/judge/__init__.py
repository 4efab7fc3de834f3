"""The judge: is a new release no worse for users than the old one? Pure mathematics.

`begin` a judgement with a `Policy` and the `History` of stable traffic, `look` at one tick of both
arms, call `step` when the release gets a larger share, and `judge` whenever you like: looking often
costs no honesty. `enough` and `detects` forecast, `replay` explains. What is tested, and how well
it works, is in docs/explanation/how-releases-are-judged.md and docs/benchmarks-judge.md.
"""

from volery.decide.judge.forecast import detects, enough
from volery.decide.judge.history import History, empty, remember, requests_per_second
from volery.decide.judge.look import look
from volery.decide.judge.policy import Policy, policy_of
from volery.decide.judge.replay import replay
from volery.decide.judge.state import State, begin, evidence, step
from volery.decide.judge.verdict import judge

__all__ = [
    "History",
    "Policy",
    "State",
    "begin",
    "detects",
    "empty",
    "enough",
    "evidence",
    "judge",
    "look",
    "policy_of",
    "remember",
    "replay",
    "requests_per_second",
    "step",
]
