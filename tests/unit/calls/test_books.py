"""Balances in files: shared, crash-only, and honest after a reboot or a loss."""

from __future__ import annotations

import asyncio
import fcntl
import stat
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from volery.calls.account import Named
from volery.calls.balance import Balance, full, rested, taken
from volery.calls.books import Books, file_name, this_epoch
from volery.model.accounts import Account

ACCOUNT = Account(hosts=("a.example",), rate=1.0, burst=10.0)
NAMED = Named("a.example:443", ACCOUNT)


class Machine:
    """Its clock, and which boot it counts from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 1000.0
        self.boot = "first"

    def books(self) -> Books:
        """Those of one more process."""
        return Books(self.folder, lambda: self.seconds, lambda: self.boot)

    @property
    def file(self) -> Path:
        return self.folder / file_name(NAMED.name)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "accounts")


def take(books: Books, count: int = 1) -> int:
    """How many of so many requests of production are let through."""

    def change(balance: Balance) -> tuple[Balance, bool]:
        left, wait = taken(balance, ACCOUNT, True)
        return left, wait == 0

    return sum(asyncio.run(books.edit(NAMED, change)) for _ in range(count))


def rest(books: Books, seconds: float) -> None:
    asyncio.run(books.edit(NAMED, lambda balance: (rested(balance, seconds), None)))


def test_two_share_one_balance(machine: Machine) -> None:
    one, other = machine.books(), machine.books()
    assert take(one, 6) == 6
    assert take(other, 6) == 4
    machine.seconds += 3
    assert take(one, 2) == 2
    assert take(other, 2) == 1


def test_nobody_else_reads_it(machine: Machine) -> None:
    take(machine.books())
    assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(machine.file.stat().st_mode) == 0o600


def test_what_is_left_survives_a_restart_and_a_reboot(machine: Machine) -> None:
    take(machine.books(), 10)
    rest(machine.books(), 60)
    machine.boot, machine.seconds = "second", 5.0
    assert take(machine.books(), 1) == 0
    machine.seconds += 59
    assert take(machine.books(), 1) == 0
    machine.seconds += 2
    assert take(machine.books(), 20) == 10


def test_a_clock_that_goes_back_gives_nothing(machine: Machine) -> None:
    take(machine.books(), 10)
    machine.seconds -= 500
    assert take(machine.books(), 1) == 0
    machine.seconds += 1
    assert take(machine.books(), 2) == 1


@given(st.binary(min_size=1, max_size=600))
def test_a_record_that_cannot_be_read_has_to_be_earned(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    machine = Machine(tmp_path_factory.mktemp("accounts"))
    machine.file.write_bytes(content)
    assert take(machine.books(), 1) == 0
    machine.seconds += 1
    assert take(machine.books(), 2) == 1


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"x"', "null", "[]"])
def test_a_record_with_strange_numbers_too(machine: Machine, value: str) -> None:
    take(machine.books())
    text = machine.file.read_text()
    for name in ("whole", "at", "rest"):
        before = text.partition(f'"{name}": ')[2].partition(",")[0].partition("}")[0]
        machine.file.write_text(text.replace(f'"{name}": {before}', f'"{name}": {value}'))
        assert take(machine.books(), 1) == 0


def test_without_a_file_the_limit_holds_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with structlog.testing.capture_logs() as said:
        books = Books(tmp_path / "file" / "accounts", lambda: 0.0)
        assert take(books, 20) == 10
    assert [line["event"] for line in said] == ["account.not_shared"]


def test_a_holder_that_was_stopped_stops_nobody(machine: Machine) -> None:
    books = machine.books()
    assert take(books, 4) == 4
    with machine.file.open("r+b") as file, structlog.testing.capture_logs() as said:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert take(books, 1) == 1
    assert "another process has held it" in said[0]["error"]
    assert take(books, 7) == 6


def test_names_of_files() -> None:
    names = {file_name(name) for name in ("a:1", "a_1", "../a", "*", "é", "x" * 300)}
    assert len(names) == 6
    assert all("/" not in name and name not in (".", "..") for name in names)
    assert max(map(len, names)) < 100


def test_the_epoch_is_that_of_this_boot() -> None:
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in this_epoch()
    assert full(ACCOUNT).whole == 10
