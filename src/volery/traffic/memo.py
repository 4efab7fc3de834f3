"""Results that are made again only when what they are made of differs.

So the cost of a change follows the size of the change and not of the environment, and what did not
change stays the very same object, which makes comparing cheap. Nothing depends on it for being
right: without a memory every result is made anew and is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Memo(Generic[Result]):
    """The newest result by key."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[object, Result]] = {}
        self._asked: set[Hashable] = set()

    def get(self, key: Hashable, made_of: object, make: Callable[[], Result]) -> Result:
        """What `make` makes of `made_of`; neither of them may be changed afterwards."""
        self._asked.add(key)
        known = self._known.get(key)
        if known is None or (known[0] is not made_of and known[0] != made_of):
            known = self._known[key] = (made_of, make())
        return known[1]

    def sweep(self) -> None:
        """Forget what was not asked for since the last sweep."""
        for key in self._known.keys() - self._asked:
            del self._known[key]
        self._asked.clear()
