"""Full, read-only, damaged and foreign files: told clearly, nothing lost, usable again after."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from integration.tiny_disk import TinyDisk, tiny_disk

from volery.model.application import Service
from volery.model.errors import Code, VoleryError
from volery.model.ports import Change
from volery.model.state import Event, Instance, ServiceState
from volery.store.sqlite import SqliteStore


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyDisk]:
    with tiny_disk(tmp_path / "tiny") as disk:
        yield disk


ITEM = Instance("i", "web", "a", "web@1", "run", 0.0, 0.0)


def change(number: int, size: int = 0) -> Change:
    return Change("instance", "x", replace(ITEM, since=float(number), because="z" * size))


def commit(store: SqliteStore, number: int, size: int = 0) -> None:
    store.commit([change(number, size)], [Event(at=0.0, kind="k", text=str(number))])


def state_of(store: SqliteStore) -> tuple[float, int, list[str]]:
    item = store.documents("instance")["x"]
    assert isinstance(item, Instance)
    return item.since, store.last_seq(), [event.text for event in store.events()]


def test_full_disk_is_told_and_store_works_again_with_space(tiny: TinyDisk) -> None:
    with SqliteStore(tiny.folder / "state.db") as store:
        commit(store, 1)
        tiny.fill()
        with pytest.raises(VoleryError) as caught:
            for _ in range(100):  # pages of the log may be free for a few commits
                commit(store, 2, size=50_000)
        before = state_of(store)
        assert caught.value.code is Code.FAILED
        assert "space" in caught.value.message or "disk" in caught.value.message
        assert caught.value.hint
        assert caught.value.where == str(tiny.folder / "state.db")
        tiny.free()
        assert state_of(store) == before
        commit(store, 3)
        after = state_of(store)
        assert after[0] == 3.0
        assert after[1] == before[1] + 1
    with SqliteStore(tiny.folder / "state.db") as store:
        assert state_of(store) == after


def test_full_disk_at_creation_leaves_no_half_store(tiny: TinyDisk) -> None:
    tiny.fill()
    with pytest.raises(VoleryError):
        SqliteStore(tiny.folder / "state.db")
    assert not (tiny.folder / "state.db").exists()
    tiny.free()
    with SqliteStore(tiny.folder / "state.db") as store:
        commit(store, 1)


def test_full_file_is_told_and_rolled_back(tmp_path: Path) -> None:
    """The same without a mount: SQLite's own limit of pages stands in for the disk's end."""
    with SqliteStore(tmp_path / "state.db") as store:
        commit(store, 1)
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(VoleryError, match="no space left") as caught:
            commit(store, 2, size=200_000)
        assert caught.value.code is Code.FAILED
        assert state_of(store) == (1.0, 1, ["1"])
        store._connection.execute("PRAGMA max_page_count = 100000")
        commit(store, 3, size=200_000)
        assert state_of(store) == (3.0, 2, ["1", "3"])


def test_disk_that_became_read_only_is_told(tiny: TinyDisk) -> None:
    store = SqliteStore(tiny.folder / "state.db")
    commit(store, 1)
    store.close()
    tiny.remount("ro")
    with pytest.raises(VoleryError) as caught:
        SqliteStore(tiny.folder / "state.db")
    assert caught.value.code is Code.FAILED
    assert caught.value.hint
    tiny.remount("rw")
    with SqliteStore(tiny.folder / "state.db") as store:
        assert state_of(store) == (1.0, 1, ["1"])


def test_read_only_while_open_is_told_and_rolled_back(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "state.db") as store:
        commit(store, 1)
        store._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(VoleryError, match="read-only"):
            commit(store, 2)
        store._connection.execute("PRAGMA query_only = 0")
        commit(store, 3)
        assert state_of(store) == (3.0, 2, ["1", "3"])


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 8192] = os.urandom(8192)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    connection.close()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def strange_document(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE document SET body = '{\"id\": 5}'")
    connection.close()


@pytest.mark.parametrize(
    "damage", [garbage, emptied, cut, overwritten, foreign, newer, strange_document]
)
def test_damaged_file_is_an_error_and_stays_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "state.db"
    with SqliteStore(path) as store:
        for number in range(20):
            commit(store, number, size=3000)
    damage(path)
    before = path.read_bytes()
    for _ in range(2):  # the lock is free again after a refusal
        with pytest.raises(VoleryError) as caught:
            SqliteStore(path)
        assert caught.value.hint
        assert "\n" not in caught.value.message
        assert "lock" not in caught.value.where
    assert path.read_bytes() == before


def test_damage_deep_in_the_ledger_is_found_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with SqliteStore(path) as store:
        store.commit([change(1)], [Event(at=0.0, kind="k", text="x" * 900) for _ in range(200)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(VoleryError, match="damaged"):
        SqliteStore(path)


def test_lost_file_beside_its_log_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    (tmp_path / "state.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(VoleryError, match="write-ahead log"):
        SqliteStore(path)
    assert not path.exists()


def test_leftovers_of_a_creation_that_died_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "state.db.new").write_bytes(b"half")
    (tmp_path / "state.db.new-wal").write_bytes(b"half")
    with SqliteStore(tmp_path / "state.db") as store:
        commit(store, 1)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["state.db", "state.db.lock"]


def test_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "state.db"):
        with pytest.raises(VoleryError, match="another control plane") as caught:
            SqliteStore(tmp_path / "state.db")
        assert caught.value.code is Code.CONFLICT
    SqliteStore(tmp_path / "state.db").close()


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with SqliteStore(tmp_path / "new" / "state.db") as store:
            commit(store, 1)
            folder = tmp_path / "new"
            modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in folder.iterdir()}
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(old)
    assert set(modes) >= {"state.db", "state.db-wal", "state.db.lock"}
    assert set(modes.values()) == {0o600}


def test_event_that_cannot_be_written_takes_its_documents_back(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "state.db") as store:
        commit(store, 1)
        store._connection.execute(
            "CREATE TEMP TRIGGER t BEFORE INSERT ON main.event BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        with pytest.raises(VoleryError, match="no"):
            commit(store, 2)
        assert state_of(store) == (1.0, 1, ["1"])
        store._connection.execute("DROP TRIGGER t")
        commit(store, 3)
    with SqliteStore(tmp_path / "state.db") as store:
        assert state_of(store) == (3.0, 2, ["1", "3"])


def test_fields_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    service = ServiceState("web", Service(run=("x",)), scale=1)
    with SqliteStore(path) as store:
        commit(store, 1)
        store.commit([Change("service", "web", service)], [])
    with sqlite3.connect(path) as connection:
        for table in ("document", "event"):
            connection.execute(f"UPDATE {table} SET body = json_set(body, '$.unheard_of', 1)")
        for place in ("$.config.unheard_of", "$.config.health.unheard_of"):
            query = "UPDATE document SET body = json_set(body, ?, 1) WHERE kind = 'service'"
            connection.execute(query, (place,))
        connection.execute("INSERT INTO document VALUES ('experiment', 'x', '{}')")
    connection.close()
    with SqliteStore(path) as store:
        assert state_of(store) == (1.0, 1, ["1"])
        assert store.documents("service") == {"web": service}


def test_text_that_is_no_unicode_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "state.db") as store:
        commit(store, 1)
        with pytest.raises(VoleryError, match="cannot be stored"):
            store.commit([change(2)], [Event(at=0.0, kind="k", text="\udcff")])
        assert state_of(store) == (1.0, 1, ["1"])


def test_schema_files_are_numbered_and_found_as_package_data() -> None:
    names = sorted(item.name for item in (files("volery.store") / "schema").iterdir())
    assert names
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
