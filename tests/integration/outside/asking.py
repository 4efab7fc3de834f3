"""Asks an `OutsideWorld` real questions and waits for the answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from volery.calls import Calls
from volery.model.deploy import CustomMetric, Gate, Synthetic
from volery.model.fields import WRITTEN
from volery.model.ports import (
    Answer,
    GateCall,
    MetricCall,
    OutsideCall,
    Subject,
    SyntheticCall,
)
from volery.outside import OutsideWorld

PATIENCE_SECONDS = 60.0
SUBJECT = Subject("web", "web@2", "canary")
ABOUT = {
    "app": "shop",
    "environment": "dev",
    "service": "web",
    "release": "web@2",
    "rollout": "web-7",
    "when": "before_step",
    "step": "2",
    "weight": "5",
}
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Asker:
    """An `OutsideWorld` and its wake-ups."""

    def __init__(self, **options: Any) -> None:
        self.woken = asyncio.Event()
        self.world = OutsideWorld(self.woken.set, Calls(), **options)

    def wish(self, **calls: OutsideCall) -> None:
        self.world.wish(calls)

    def state(self, key: str) -> str:
        return self.world.observe()[key].state

    async def until(self, key: str, good: Callable[[Answer], object]) -> Answer:
        """The first answer that is good; synthetic requests do not wake anybody."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not good(self.world.observe()[key]):
                await asyncio.sleep(0.01)
        return self.world.observe()[key]

    async def answer(self, key: str) -> Answer:
        return await self.until(key, lambda answer: answer.state != "waiting")

    async def to(self, call: OutsideCall) -> Answer:
        """The first answer to a call, wished alone."""
        self.wish()
        self.wish(only=call)
        return await self.answer("only")


@asynccontextmanager
async def asker(**options: Any) -> AsyncIterator[Asker]:
    made = Asker(**options)
    await made.world.open()
    try:
        yield made
    finally:
        await made.world.close()


def with_asker(play: Callable[[Asker], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with asker(**options) as made:
            await play(made)

    asyncio.run(run())


def answer_to(call: OutsideCall, **options: Any) -> Answer:
    """The first answer to one call."""

    async def run() -> Answer:
        async with asker(**options) as made:
            return await made.to(call)

    return asyncio.run(run())


def gate(
    folder: Path = Path("/"),
    environment: Mapping[str, str] = ENVIRONMENT,
    subject: Subject = SUBJECT,
    **fields: Any,
) -> GateCall:
    found = Gate.model_validate(fields, context=WRITTEN)
    return GateCall(found, subject, ABOUT, str(folder), environment)


def metric(
    folder: Path = Path("/"),
    environment: Mapping[str, str] = ENVIRONMENT,
    subject: Subject = SUBJECT,
    **fields: Any,
) -> MetricCall:
    found = CustomMetric.model_validate({"limit": "< 100"} | fields, context=WRITTEN)
    return MetricCall(found, subject, ABOUT, str(folder), environment)


def synthetic(port: int, steer: Mapping[str, str] | None = None, **fields: Any) -> SyntheticCall:
    """`steer`: the headers that lead to a group."""
    found = Synthetic.model_validate({"path": "/", "rate": 50.0} | fields, context=WRITTEN)
    return SyntheticCall(found, f"http://127.0.0.1:{port}", steer or {})
