"""What every benchmark is told: how thorough to be, and where peers are kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Size = TypeVar("Size")


@dataclass(frozen=True)
class Options:
    """`quick` measures little, to see that it works; `cache` is where peers are installed."""

    cache: Path
    quick: bool = False

    def size(self, full: Size, quick: Size) -> Size:
        """How much to measure."""
        return quick if self.quick else full


def say(message: str) -> None:
    """Progress and what is missing, for whoever watches."""
    print(f"  {message}", file=sys.stderr, flush=True)
