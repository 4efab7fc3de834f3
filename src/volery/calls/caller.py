"""Sends one request on behalf of an account: in turn, within its deadline, again where it may be.

It decides nothing about what an answer means. Everything it waits for ends at the deadline, and
what cannot be in time is refused at once, with the reason.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from volery.calls.account import Named, account_of
from volery.calls.balance import Balance, earned, rested, retried, taken
from volery.calls.books import Books
from volery.calls.exchange import NoReply, Reply, Request, address_of, exchange
from volery.calls.retry import again, back_off, wanted_rest
from volery.model.accounts import Account
from volery.model.units import format_duration

SPREAD = 0.1
"""Whoever waits for the same moment comes up to this share of the wait, at most a second, later."""


@dataclass(frozen=True)
class Settings:
    """Who asks: the accounts of the manifest, and whether this environment is like production."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    production: bool = False


class Calls:
    """The one place from which other people's servers are asked.

    Args:
        folder: where balances are shared with other processes; None shares them with nobody.
        settings: asked anew for each request.
        source: of the jitter.
    """

    def __init__(
        self,
        folder: Path | None = None,
        settings: Callable[[], Settings] = Settings,
        source: random.Random | None = None,
    ) -> None:
        self._books = Books(folder)
        self._settings = settings
        self._source = source or random.Random()  # noqa: S311 - jitter, not cryptography
        self._queues: dict[str, asyncio.Lock] = {}

    async def send(self, request: Request, seconds: float) -> Reply:
        """Send it and take the answer, the last one if it was tried several times.

        Raises:
            NoReply: no HTTP answer came within `seconds`, or it was not its turn within them.
        """
        settings = self._settings()
        payer = _Payer(account_of(request.url, settings.accounts), settings.production)
        deadline = _now() + seconds
        await self._books.edit(payer.named, lambda left: (earned(left, payer.production), None))
        where = address_of(request.url)
        if refusal := await self._turn(payer, deadline):
            raise NoReply(f"{where}: not asked: {refusal}", late=True)
        for tried in count(1):
            outcome = await _tried(request, deadline, seconds)
            await self._obey(payer, outcome)
            wait = back_off(tried, self._source.random())
            if not again(request, outcome, tried) or _now() + wait >= deadline:
                break
            if refusal := await self._another(payer, wait, deadline):
                return _given(outcome, f"not tried again: {refusal}")
        return _given(outcome)

    async def _another(self, payer: _Payer, wait: float, deadline: float) -> str:
        """Wait for another try; why there is none, "" if there is."""
        if not await self._books.edit(payer.named, _retrying(payer)):
            return f"the retry budget of {payer.name} is used up"
        await asyncio.sleep(wait)
        return await self._turn(payer, deadline)

    async def _turn(self, payer: _Payer, deadline: float) -> str:
        """Wait in line until the account may be asked; why it may not in time, "" if it may."""
        queue = self._queues.setdefault(payer.name, asyncio.Lock())
        try:
            async with asyncio.timeout_at(deadline), queue:
                while wait := await self._books.edit(payer.named, _taking(payer)):
                    if _now() + wait.seconds > deadline:
                        return wait.said(payer.name)
                    late = min(1.0, wait.seconds * SPREAD) * self._source.random()
                    await asyncio.sleep(wait.seconds + late)
        except TimeoutError:
            return f"too many requests wait for the rate limit of {payer.name}"
        return ""

    async def _obey(self, payer: _Payer, outcome: Reply | NoReply) -> None:
        """What the server said about coming back later holds for everybody."""
        if isinstance(outcome, NoReply):
            return
        rest = wanted_rest(outcome.status, outcome.headers, time.time())
        if rest:
            await self._books.edit(payer.named, lambda balance: (rested(balance, rest), None))


@dataclass(frozen=True)
class _Payer:
    """The account that is drawn on, and by which side."""

    named: Named
    production: bool

    @property
    def name(self) -> str:
        return self.named.name


@dataclass(frozen=True)
class _Wait:
    """Seconds until it may be one's turn; whether the server itself asked for them."""

    seconds: float
    resting: bool

    def said(self, name: str) -> str:
        why = "wants to be left alone" if self.resting else "has used up its rate limit"
        return f"{name} {why} for {format_duration(self.seconds)}"


def _taking(payer: _Payer) -> Callable[[Balance], tuple[Balance, _Wait | None]]:
    def change(balance: Balance) -> tuple[Balance, _Wait | None]:
        left, wait = taken(balance, payer.named.account, payer.production)
        return left, _Wait(wait, wait <= balance.rest) if wait else None

    return change


def _retrying(payer: _Payer) -> Callable[[Balance], tuple[Balance, bool]]:
    def change(balance: Balance) -> tuple[Balance, bool]:
        left = retried(balance, payer.production)
        return (balance, False) if left is None else (left, True)

    return change


async def _tried(request: Request, deadline: float, seconds: float) -> Reply | NoReply:
    """One try; what it came to is also an answer."""
    try:
        return await exchange(request, max(0.0, deadline - _now()))
    except NoReply as why:
        if why.late:
            where = address_of(request.url)
            return NoReply(f"{where}: no answer within {format_duration(seconds)}", late=True)
        return why


def _given(outcome: Reply | NoReply, note: str = "") -> Reply:
    if isinstance(outcome, Reply):
        return replace(outcome, note=note)
    if note:
        raise NoReply(f"{outcome}; {note}", reached=outcome.reached)
    raise outcome


def _now() -> float:
    return asyncio.get_running_loop().time()
