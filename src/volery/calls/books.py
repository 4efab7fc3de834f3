"""Balances of accounts in files that all processes on this machine share.

One file of one block for each account, changed under a lock of the kernel: it is let go of however
its holder ends, and one write replaces the whole record, so that a kill leaves the old or the new
one. Time is CLOCK_BOOTTIME, the same for all processes and not moved by a jump of the date; after a
reboot the time between is not known and counts as none. A record that cannot be read is a past that
is lost. Where the file cannot be used (no room, no rights, a holder that was stopped), this process
goes on with the balance it saw last, and says so once.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import structlog

from volery.calls.account import Named
from volery.calls.balance import Balance, full, later, unknown
from volery.model.accounts import Account

BLOCK_BYTES = 512
LOCK_SECONDS = 1.0
LOCK_EVERY_SECONDS = 0.002
log = structlog.get_logger()
T = TypeVar("T")
Edit = Callable[[Balance], tuple[Balance, T]]


@lru_cache(1)
def this_epoch() -> str:
    """Names the time that CLOCK_BOOTTIME counts: since this boot, in this time namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    space = Path("/proc/self/ns/time")
    return f"{boot}/{space.readlink()}" if space.is_symlink() else boot


def boot_seconds() -> float:
    """Seconds since the machine was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Books:
    """The balances in one folder.

    Args:
        folder: where the files are, made when first needed; None keeps everything in this process.
        clock: seconds that never go back within an epoch.
        epoch: names what the clock counts from.
    """

    def __init__(
        self,
        folder: Path | None,
        clock: Callable[[], float] = boot_seconds,
        epoch: Callable[[], str] = this_epoch,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._epoch = epoch
        self._seen: dict[str, tuple[float, Balance]] = {}
        self._told: set[str] = set()

    async def edit(self, named: Named, change: Edit[T]) -> T:
        """Change the balance of an account as of now, and return what the change says."""
        if self._folder is not None:
            try:
                return await self._in_file(self._folder, named, change)
            except OSError as error:
                self._tell(named.name, error)
        return self._in_memory(named, change)

    async def _in_file(self, folder: Path, named: Named, change: Edit[T]) -> T:
        deadline = time.monotonic() + LOCK_SECONDS
        with _opened(folder / f"{file_name(named.name)}") as file:
            while not _locked(file):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has held it for {LOCK_SECONDS:g} s")
                await asyncio.sleep(LOCK_EVERY_SECONDS)
            now, epoch = self._clock(), self._epoch()
            before = _read(os.pread(file, BLOCK_BYTES, 0), named.account, epoch, now)
            after, said = change(before)
            os.pwrite(file, _written(after, epoch, now), 0)
            self._seen[named.name] = (now, after)
            return said

    def _in_memory(self, named: Named, change: Edit[T]) -> T:
        now = self._clock()
        at, before = self._seen.get(named.name, (now, full(named.account)))
        after, said = change(later(before, named.account, now - at))
        self._seen[named.name] = (now, after)
        return said

    def _tell(self, name: str, error: OSError) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("account.not_shared", account=name, error=error.strerror or str(error))


def file_name(account: str) -> str:
    """A file name for any account, readable and different for each."""
    plain = "".join(sign if sign.isalnum() or sign in "-." else "_" for sign in account)[:80]
    return f"{plain}-{hashlib.sha256(account.encode()).hexdigest()[:8]}"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _written(balance: Balance, epoch: str, now: float) -> bytes:
    text = json.dumps({"epoch": epoch, "at": now, **asdict(balance)})
    return text.encode().ljust(BLOCK_BYTES - 1) + b"\n"


def _read(block: bytes, account: Account, epoch: str, now: float) -> Balance:
    """The balance now that a record stands for."""
    if not block:
        return full(account)
    try:
        record = json.loads(block)
        since, counted_from = float(record.pop("at")), record.pop("epoch")
        values = {name: float(value) for name, value in record.items()}
        balance = Balance(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return unknown()
    passed = now - since if counted_from == epoch else 0.0
    if not all(math.isfinite(value) for value in (passed, *values.values())):
        return unknown()
    return later(balance, account, passed)
