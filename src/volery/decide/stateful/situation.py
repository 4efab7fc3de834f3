"""What the decisions about a stateful service may know besides the world, and what they answer.

Ages are seconds on a clock that never jumps, counted since this control plane first saw something:
after a crash they begin again, which only waits longer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from volery.decide.group import Operation
from volery.model.tenure import Tenure


@dataclass(frozen=True)
class Given:
    """`withdrawn`: whether no proxy sends this instance anything new any more; `furthest`: the
    highest position that the primary has said in its term; `has_room`: whether the guard has room
    for one more disturbance."""

    now: float
    monotonic: float
    age: Callable[[Hashable], float]
    withdrawn: Callable[[str], bool]
    furthest: int = 0
    has_room: bool = True


@dataclass(frozen=True)
class Note:
    """Something to be said in the ledger."""

    kind: str
    text: str
    instance: str = ""
    cause: str = ""
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Decided:
    """The tenure as it should be, what is to be done to instances, what is to be said, why a
    rollout must go back ("" if none must), and which kills have not helped before."""

    tenure: Tenure
    operations: tuple[Operation, ...] = ()
    notes: tuple[Note, ...] = ()
    abort: str = ""
    failed: tuple[str, ...] = ()
