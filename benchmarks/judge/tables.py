"""Results as tables."""

from typing import Any


def write(results: list[dict[str, Any]]) -> None:
    pass
