"""The recipe `examples/redis-ha` on real Redis: whatever happens, no write that a replica has
acknowledged is lost, and there is one primary at last.

One cluster lives through all of it, under writers all the time, as in production.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from benchmarks.ledger import Ledger
from benchmarks.processes import until
from benchmarks.recipe import UP_SECONDS, running
from benchmarks.redis.cluster import Cluster, missing
from benchmarks.redis.protocol import Connection
from benchmarks.redis.writes import writing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("redis"))
    # On a busy machine a role command may take its time, and so may a replica that is to take over.
    made.edit("failover: 1s", "failover: 5s")
    made.edit("    stop: {drain: 0s", '    env: {REDIS_YIELD_SECONDS: "60"}\n    stop: {drain: 0s')
    with running(made):
        yield made


def under_writers(database: Cluster, act: Callable[[], None]) -> Ledger:
    """Do it while somebody writes, wait until all is whole, and ask for every write."""
    with writing(database.port) as ledger:
        until(lambda: len(ledger.commits) > 20, "writes are acknowledged", UP_SECONDS)
        act()
        before = len(ledger.commits)
        database.rest()
        until(lambda: len(ledger.commits) > before + 20, "writes go on", UP_SECONDS)
    assert ledger.lost() == set(), ledger.errors
    print(f"{len(ledger.commits)} writes, longest outage {ledger.outage(0.0):.2f} s")
    return ledger


def replaced(database: Cluster, before: str) -> None:
    """Wait until another instance is the primary."""
    until(lambda: database.primary != before, "another primary", UP_SECONDS, pause=0.1)


def test_a_killed_primary_is_replaced_by_a_replica(database: Cluster) -> None:
    before = database.primary

    def kill() -> None:
        database.kill(before)
        replaced(database, before)

    under_writers(database, kill)


def test_a_killed_replica_disturbs_nobody(database: Cluster) -> None:
    before = database.status()["primary"]
    replica = next(i for i in ("sessions-db-0", "sessions-db-1") if i != before["instance"])
    under_writers(database, lambda: database.kill(replica))
    assert database.status()["primary"]["term"] == before["term"]


def test_a_primary_that_is_cut_off_is_fenced_and_replaced(database: Cluster) -> None:
    """Every process of it stands still: for everybody else that is what a cut network is."""
    before = database.primary

    def cut() -> None:
        database.freeze(before, True)
        replaced(database, before)

    under_writers(database, cut)


def test_a_primary_whose_volume_was_emptied_is_not_believed(database: Cluster) -> None:
    before = database.primary

    def empty() -> None:
        database.empty(before)
        replaced(database, before)

    under_writers(database, empty)


def test_a_change_of_configuration_reaches_every_instance(database: Cluster) -> None:
    database.configure("slowlog-max-len 77")
    under_writers(database, lambda: print(database.volery("deploy", "sessions-db")))
    with Connection(database.port) as connection:
        assert connection.ask("CONFIG", "GET", "slowlog-max-len") == ["slowlog-max-len", "77"]


def test_a_switchover_by_hand(database: Cluster) -> None:
    before = database.status()["primary"]
    under_writers(database, lambda: print(database.volery("switchover", "sessions-db")))
    after = database.status()["primary"]
    assert after["instance"] != before["instance"] and after["term"] == before["term"] + 1


def test_what_was_deleted_on_purpose_begins_anew_and_can_be_restored(database: Cluster) -> None:
    """A primary of a later term refuses to start without data, as its volume may be lost."""
    database.volery("switchover", "sessions-db")
    database.rest()
    before = database.status()["primary"]
    with writing(database.port) as ledger:
        until(lambda: len(ledger.commits) > 20, "writes are acknowledged", UP_SECONDS)
    kept = deleted(database)
    database.volery("up")
    database.rest()
    after = database.status()["primary"]
    assert (after["instance"], after["term"]) == (before["instance"], before["term"])
    with Connection(database.port) as connection:
        assert connection.ask("DBSIZE") == 0
    deleted(database)
    for name in kept:
        database.volery("volumes", "restore", name)
    database.volery("up")
    database.rest()
    with writing(database.port) as later:
        assert {item.number for item in ledger.commits} <= later.database.present()


def deleted(database: Cluster) -> list[str]:
    """Delete all volumes, and say how they can be restored."""
    told = json.loads(database.volery("--yes", "--output", "json", "down", "--volumes"))
    return list(map(str, told["volumes"]))
