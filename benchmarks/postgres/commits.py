"""PostgreSQL as a database whose every acknowledged commit is asked for afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg

from benchmarks.ledger import Database, Ledger, Write
from benchmarks.ledger import writing as writing_to

CONNECT_SECONDS = 2
TABLE = "CREATE TABLE IF NOT EXISTS ledger (number bigint PRIMARY KEY, written text)"
INSERT = "INSERT INTO ledger VALUES (%s, %s)"


def writing(port: int) -> AbstractContextManager[Ledger]:
    """Write through this port for as long as the block lasts.

    Raises:
        psycopg.Error: the table cannot be made.
        TimeoutError: a writer did not end; it waits for an answer.
    """
    with connected(port) as connection:
        connection.execute(TABLE)
        last = connection.execute("SELECT coalesce(max(number), 0) FROM ledger").fetchone()
    database = Database(lambda: _session(port), lambda: _present(port), psycopg.Error)
    return writing_to(database, (last or (0,))[0] + 1)


def connected(port: int) -> psycopg.Connection[tuple[int, ...]]:
    """A connection as the application has it."""
    return psycopg.connect(
        f"host=127.0.0.1 port={port} user=app dbname=app connect_timeout={CONNECT_SECONDS}",
        autocommit=True,
    )


def _present(port: int) -> set[int]:
    with connected(port) as connection:
        return {row[0] for row in connection.execute("SELECT number FROM ledger")}


@contextmanager
def _session(port: int) -> Iterator[Write]:
    warnings: list[str] = []

    def write(number: int) -> bool:
        warnings.clear()
        connection.execute(INSERT, (number, f"{number}"))
        # A commit that only waited for replicas in vain is told of with a warning.
        return not warnings

    with connected(port) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(str(notice.message_primary)))
        yield write
