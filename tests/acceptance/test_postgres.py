"""The recipe `examples/postgres-ha` on real PostgreSQL: whatever happens, no acknowledged commit is
lost, and there is one primary at last.

One cluster lives through all of it, under writers all the time, as in production.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from benchmarks.ledger import Ledger
from benchmarks.postgres.cluster import Cluster, missing
from benchmarks.postgres.commits import connected, writing
from benchmarks.processes import until
from benchmarks.recipe import UP_SECONDS, running

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("postgres"))
    made.edit("failover: 2s", "failover: 5s")  # on a busy machine a role command takes its time
    with running(made):
        yield made


def under_writers(database: Cluster, act: Callable[[], None], size: int = 3) -> Ledger:
    """Do it while somebody writes, wait until all is whole, and ask for every commit."""
    with writing(database.port) as ledger:
        until(lambda: len(ledger.commits) > 20, "commits are acknowledged", UP_SECONDS)
        act()
        before = len(ledger.commits)
        database.rest(size)
        until(lambda: len(ledger.commits) > before + 20, "commits go on", UP_SECONDS)
    assert ledger.lost() == set(), ledger.errors
    print(f"{len(ledger.commits)} commits, longest outage {ledger.outage(0.0):.2f} s")
    return ledger


def test_a_killed_primary_is_back_or_replaced(database: Cluster) -> None:
    """Whichever is sooner: how long PostgreSQL takes to start after a crash is the disk's say."""
    under_writers(database, lambda: database.kill(database.primary))


def test_a_killed_replica_disturbs_nobody(database: Cluster) -> None:
    before = database.status()["primary"]
    replica = next(i for i in ("orders-db-0", "orders-db-1") if i != before["instance"])
    under_writers(database, lambda: database.kill(replica))
    assert database.status()["primary"]["term"] == before["term"]


def test_a_primary_that_is_gone_for_good_is_replaced(database: Cluster) -> None:
    before = database.primary
    under_writers(database, lambda: database.destroy(before))
    assert database.primary != before


def test_a_primary_that_is_cut_off_is_fenced_and_replaced(database: Cluster) -> None:
    """Every process of it stands still: for everybody else that is what a cut network is."""
    before = database.primary

    def cut() -> None:
        database.freeze(before, True)
        until(lambda: database.primary != before, "another primary", UP_SECONDS)

    under_writers(database, cut)


def test_a_primary_whose_volume_was_emptied_is_not_believed(database: Cluster) -> None:
    before = database.primary
    under_writers(database, lambda: database.empty(before))
    assert database.primary != before


def test_a_change_of_configuration_reaches_every_instance(database: Cluster) -> None:
    database.configure("work_mem = 7MB")
    under_writers(database, lambda: print(database.volery("deploy", "orders-db")))
    with connected(database.port) as connection:
        found = connection.execute("SHOW work_mem").fetchone()
    assert found is not None and str(found[0]) == "7MB"


def test_a_switchover_by_hand(database: Cluster) -> None:
    before = database.status()["primary"]
    under_writers(database, lambda: print(database.volery("switchover", "orders-db")))
    after = database.status()["primary"]
    assert after["instance"] != before["instance"] and after["term"] == before["term"] + 1


def test_up_to_four_and_down_to_two(database: Cluster) -> None:
    under_writers(database, lambda: print(database.volery("scale", "orders-db", "4")), size=4)
    under_writers(database, lambda: print(database.volery("scale", "orders-db", "2")), size=2)


def test_a_backup_is_restored_and_everybody_copies_it(database: Cluster) -> None:
    with connected(database.port) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS moment")
    database.volery("switchover", "orders-db")  # makes a backup first
    database.rest(database.status()["desired"])
    with connected(database.port) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
    refused = database.restore(database.primary)
    assert refused.returncode == 1 and "in use: volery down" in refused.stderr, refused.stderr
    before = database.primary
    database.volery("down")
    restored = database.restore(before)
    assert restored.returncode == 0, restored.stderr
    database.volery("up")
    database.rest()
    with connected(database.port) as connection:
        assert connection.execute("SELECT moment FROM kept").fetchall() == [(1,)]
    assert database.primary == before
    assert list(database.volume(before).glob("data.before-*"))
    under_writers(database, lambda: print(database.volery("switchover", "orders-db")))
