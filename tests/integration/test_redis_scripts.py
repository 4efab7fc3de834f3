"""The scripts of `examples/redis-ha`, started as Volery starts them, where two things matter most:
a former primary never serves what only it had, and an empty primary empties nobody."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.processes import end, free_port, run, started, until
from benchmarks.recipe import EXAMPLES
from benchmarks.redis.cluster import missing
from benchmarks.redis.protocol import Answer, Connection, Refused

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
PATIENCE_SECONDS = 60.0
SCRIPTS = EXAMPLES / "redis-ha"


class Instance:
    """One instance of the recipe, without Volery; `primary` is a port."""

    def __init__(self, root: Path, number: int) -> None:
        self.name = f"sessions-db-{number}"
        self.port = free_port()
        self.volume = root / self.name
        self.volume.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, role: str, term: int, primary: int) -> None:
        """As a process of its own."""
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "REDIS_YIELD_SECONDS": "0",
            "VOLERY_SERVICE": "sessions-db",
            "VOLERY_INSTANCE": self.name,
            "VOLERY_VOLUME": str(self.volume),
            "VOLERY_ROLE": role,
            "VOLERY_TERM": str(term),
            "SESSIONS_DB_URL": f"tcp://127.0.0.1:{primary}",
        }
        words = ["sh", "-c", f"cd {SCRIPTS} && exec ./start.sh"]
        self._process = started(words, self.volume.parent / f"{self.name}.log", self._environment)

    def end(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            end(self._process)

    def run(self, script: str, term: int) -> str:
        """What a command of the recipe prints."""
        return run([str(SCRIPTS / script)], SCRIPTS, self._environment | {"VOLERY_TERM": str(term)})

    def says(self, role: str) -> bool:
        return self.run("role.sh", 1).startswith(f"{role} ")

    def ask(self, *words: str) -> Answer:
        with Connection(self.port, PATIENCE_SECONDS) as connection:
            return connection.ask(*words)

    def put(self, key: str) -> None:
        """Write it, so that a replica has it."""

        def confirmed() -> bool:
            # A replica that was silent for a while is NOREPLICAS. WAIT is about the writes of its
            # own connection.
            with suppress(Refused), Connection(self.port, PATIENCE_SECONDS) as connection:
                connection.ask("SET", key, "1")
                return connection.ask("WAIT", "1", "20000") == 1
            return False

        until(confirmed, f"a replica has {key}")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Instance, Instance]]:
    """A primary and a replica in sync."""
    first, second = Instance(tmp_path, 0), Instance(tmp_path, 1)
    with ExitStack() as stack:
        stack.callback(first.end)
        stack.callback(second.end)
        first.start("primary", 1, first.port)
        second.start("replica", 1, first.port)
        until(lambda: second.says("replica"), "a replica in sync")
        yield first, second


def position(instance: Instance) -> int:
    return int(instance.run("role.sh", 1).split()[1])


def told(instance: Instance, key: str) -> str:
    """What a key is there, or why it is not told."""
    try:
        return str(instance.ask("GET", key))
    except Refused as error:
        return str(error).split()[0]
    except OSError:
        return "nobody answers"


def test_a_former_primary_never_serves_what_only_it_had(pair: tuple[Instance, Instance]) -> None:
    former, successor = pair
    former.put("both")
    successor.end()
    former.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    former.ask("SET", "alone", "1")
    before = position(former)
    former.end()
    successor.start("replica", 1, former.port)
    until(lambda: successor.says("syncing"), "it is back")
    successor.run("promote.sh", 2)
    assert successor.says("primary") and position(successor) > before

    former.start("replica", 2, successor.port)
    seen: set[str] = set()

    def follows() -> bool:
        seen.add(told(former, "alone"))
        return former.says("replica")

    until(follows, "it follows")
    assert seen <= {"nobody answers", "LOADING", "MASTERDOWN", "None"}
    assert (told(former, "both"), told(former, "alone")) == ("1", "None")


def test_a_primary_that_lost_its_volume_empties_nobody(pair: tuple[Instance, Instance]) -> None:
    """In term 1 it looks as if it were the first start ever."""
    primary, replica = pair
    primary.put("a")
    until(lambda: told(replica, "a") == "1", "the replica has it")
    primary.end()
    (replica.volume / "safe").unlink()  # as if it had copied the primary a moment ago
    until(lambda: replica.says("replica"), "it may take over")
    before = position(replica)
    for path in sorted(primary.volume.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()

    primary.start("primary", 1, primary.port)
    until(lambda: replica.says("syncing"), "it knows that there is a primary")
    log = primary.volume.parent / f"{replica.name}.log"
    until(lambda: "Unable to AUTH to MASTER" in log.read_text(), "it is told apart")
    assert position(replica) == before and told(replica, "a") == "MASTERDOWN"
    primary.end()
    replica.run("promote.sh", 2)
    assert told(replica, "a") == "1"


def test_a_primary_that_is_started_again_is_further_than_before(
    pair: tuple[Instance, Instance],
) -> None:
    """Redis itself counts from 0 again."""
    primary, replica = pair
    primary.put("a")
    before = position(primary)
    primary.end()
    primary.start("primary", 1, primary.port)
    until(lambda: primary.says("primary"), "it is back")
    assert position(primary) > before
    again = position(primary)
    until(lambda: replica.says("replica") and position(replica) >= again, "it follows")
    assert told(replica, "a") == "1"


def test_a_backup_can_be_restored(pair: tuple[Instance, Instance]) -> None:
    primary, replica = pair
    primary.put("a")
    primary.run("backup.sh", 1)
    primary.ask("SET", "b", "1")
    primary.end()
    replica.end()
    (saved,) = (primary.volume / "backups").iterdir()
    for instance in pair:
        (instance.volume / "data").rename(instance.volume / "before")
    saved.rename(primary.volume / "data")
    primary.start("primary", 1, primary.port)
    replica.start("replica", 1, primary.port)
    until(lambda: replica.says("replica"), "a replica in sync")
    assert (told(replica, "a"), told(replica, "b")) == ("1", "None")
