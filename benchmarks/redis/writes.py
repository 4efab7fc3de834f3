"""Redis as a database whose every acknowledged write is asked for afterwards.

*Acknowledged* means what the recipe's README says: the write was answered, and `WAIT 1` says that a
replica has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from benchmarks.ledger import Database, Ledger, Write
from benchmarks.ledger import writing as writing_to
from benchmarks.redis.protocol import Connection

KEY = "ledger"
WAIT_MILLISECONDS = 1000


def writing(port: int) -> AbstractContextManager[Ledger]:
    """Write through this port for as long as the block lasts.

    Raises:
        OSError: nobody is there.
        TimeoutError: a writer did not end; it waits for an answer.
    """
    database = Database(lambda: _session(port), lambda: _present(port), OSError)
    return writing_to(database, max(_present(port), default=0) + 1)


def _present(port: int) -> set[int]:
    with Connection(port) as connection:
        found = connection.ask("HKEYS", KEY)
    assert isinstance(found, list)
    return {int(str(item)) for item in found}


@contextmanager
def _session(port: int) -> Iterator[Write]:
    with Connection(port) as connection:

        def write(number: int) -> bool:
            connection.ask("HSET", KEY, number, number)
            return connection.ask("WAIT", 1, WAIT_MILLISECONDS) != 0

        yield write
