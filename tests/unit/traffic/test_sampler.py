from __future__ import annotations

import pytest

from volery.traffic.admin import HostCount
from volery.traffic.sampler import Look, merge

WEB = ("web~a", "web-1")
BUSY = HostCount(requests=2, connections=2, total=9, draining=True)
IDLE = HostCount(requests=0, connections=1, total=9, draining=True)


def look(count: HostCount | None, *waiting: str, key: tuple[str, str] = WEB) -> Look:
    return Look({key: count} if count else {}, frozenset(waiting))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (look(BUSY), look(BUSY), 2),
        (look(IDLE), look(IDLE), 0),
        (look(BUSY), look(IDLE), 1),
        (look(IDLE), look(HostCount(connections=1, total=10, draining=True)), 1),
        (look(IDLE), look(IDLE, "web~a"), 1),
        (look(IDLE), look(IDLE, "web~b"), 0),
        (look(IDLE), look(HostCount(total=9, draining=True), "web~a"), 0),
        (look(None), look(None), 0),
        (look(BUSY), look(HostCount(total=12)), 0),
    ],
    ids=[
        "busy",
        "idle",
        "idle only just",
        "came and went",
        "one waits for it",
        "one waits for another",
        "one waits, not for it",
        "unknown",
        "not draining: exact",
    ],
)
def test_a_draining_instance_is_idle_only_beyond_doubt(
    first: Look, second: Look, expected: int
) -> None:
    assert merge([(first, second)]) == ({"web-1": expected} if expected else {})


def test_connections_count_for_tcp_and_proxies_add_up() -> None:
    db = look(HostCount(requests=0, connections=3), key=("db~tcp", "db-1"))
    assert merge([(db, db), (db, db)]) == {"db-1": 6}


def test_our_own_clusters_have_no_instances() -> None:
    ads = look(BUSY, key=("volery~ads", ""))
    assert merge([(ads, ads)]) == {}
