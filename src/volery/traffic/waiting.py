"""Waiting for what cannot wake us: another process's end, an answer over an admin socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Wait for a condition that has to be asked for; false if it did not come true in time."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - nothing sets an event for us
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False
    return True
