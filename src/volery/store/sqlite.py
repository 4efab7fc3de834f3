"""The store in one SQLite file: documents and the events that explain them, in one transaction.

A commit is on disk when it returns (WAL, `synchronous=FULL`) or has not happened. Documents are
read through a cache that is written with every commit, so looking at them costs nothing. One
process writes; a lock file keeps a second one out. The schema is the numbered files in `schema/`,
each applied once, in order; `user_version` says how many were.

A file that is damaged, foreign or newer than this version is an error. It is never replaced.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import TracebackType

from volery.model.errors import Code, VoleryError
from volery.model.ports import Change
from volery.model.state import Event, Look
from volery.store.documents import (
    KINDS,
    apply,
    decode,
    decode_event,
    decode_look,
    encode,
    encode_event,
    encode_look,
    sealed,
    without_rollout,
)
from volery.store.files import hold, sync_folder
from volery.store.retention import EVENTS_KEPT, expired

BUSY_SECONDS = 5.0
LOCK_SECONDS = 2.0
"""Whoever only writes down what was done with volumes has the store for a moment."""
LOG_BYTES_MAX = 16 * 2**20
_REMEDY = "move it, its -wal and its -shm away; then restore it from a backup, or start anew"
"""All three: what lies in a write-ahead log would be taken for the end of any file beside it."""
_DAMAGED = ("the store is damaged", _REMEDY)
_TROUBLE: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("no space left on the disk", "free some space, then try again"),
    sqlite3.SQLITE_IOERR: ("the disk cannot be read or written", "check free space and the disk"),
    sqlite3.SQLITE_READONLY: ("the store is read-only", "check the rights of the file and folder"),
    sqlite3.SQLITE_PERM: ("the store may not be opened", "check the rights of the file and folder"),
    sqlite3.SQLITE_CANTOPEN: ("the store cannot be opened", "check the rights of file and folder"),
    sqlite3.SQLITE_BUSY: ("another process writes to the store", "end it, then try again"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}
"""What SQLite's primary result codes mean to a person: what is wrong, what to do."""


class SqliteStore:
    """Documents and events in a SQLite file; made with the file if there is none.

    With `read_only` it is a look at a file that is there, also while another process writes to it.

    Raises:
        VoleryError: FAILED if the disk or the file is at fault, CONFLICT if another process has
            the store open.
    """

    def __init__(self, path: Path, *, keep: int = EVENTS_KEPT, read_only: bool = False) -> None:
        self._path = path
        self._keep = keep
        self._lock: int | None = None
        if not read_only:
            with self._told():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = path.with_name(path.name + ".lock")
            self._lock = hold(lock, LOCK_SECONDS, "another control plane runs")
        try:
            with self._told():
                self._connection = _open_read_only(path) if read_only else _open(path)
        except BaseException:
            self._let_go()
            raise
        try:
            with self._told():
                self._documents = self._load()
                self._first, self._last = self._bounds()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give file and lock back. Everything committed is on disk already."""
        self._connection.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def commit(
        self, changes: Sequence[Change], events: Sequence[Event], looks: Sequence[Look] = ()
    ) -> Sequence[Event]:
        """All or nothing, on disk when it returns; events come back with their sequence numbers."""
        if not changes and not events and not looks:
            return ()
        documents = apply(self._documents, changes)
        rows = [(c.kind, c.key, c.document and encode(c.kind, c.key, c.document)) for c in changes]
        numbered = tuple(replace(event, seq=self._last + n) for n, event in enumerate(events, 1))
        seen = [(look.rollout, look.number, encode_look(look)) for look in looks]
        lines = [(event.seq, event.service, encode_event(event)) for event in numbered]
        last = self._last + len(numbered)
        gone = expired(self._first, last, self._keep)
        with self._told(), self._transaction() as write:
            for kind, key, body in rows:
                if body is None:
                    write.execute("DELETE FROM document WHERE kind = ? AND key = ?", (kind, key))
                else:
                    write.execute("REPLACE INTO document VALUES (?, ?, ?)", (kind, key, body))
            for rollout in without_rollout(changes):
                write.execute("DELETE FROM look WHERE rollout = ?", (rollout,))
            write.executemany("REPLACE INTO look VALUES (?, ?, ?)", seen)
            write.executemany("INSERT INTO event VALUES (?, ?, ?)", lines)
            if gone:
                write.execute("DELETE FROM event WHERE seq <= ?", (gone,))
        self._documents, self._last = documents, last
        self._first = max(self._first, gone + 1)
        return numbered

    def documents(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind, by key: a snapshot that later commits do not change."""
        return self._documents[kind]

    def events(
        self, after: int = 0, limit: int = 1000, service: str | None = None
    ) -> Sequence[Event]:
        """Events with a sequence number above `after`, oldest first."""
        mine, values = ("", ()) if service is None else (" AND service = ?", (service,))
        query = f"SELECT seq, body FROM event WHERE seq > ?{mine} ORDER BY seq LIMIT ?"  # noqa: S608
        with self._told():
            rows = self._connection.execute(query, (after, *values, max(0, limit))).fetchall()
        return tuple(decode_event(seq, body) for seq, body in rows)

    def latest(
        self, limit: int = 1000, before: int | None = None, service: str | None = None
    ) -> Sequence[Event]:
        """The newest events, or those with the highest sequence numbers below `before`; oldest
        first."""
        mine, values = ("", ()) if service is None else (" AND service = ?", (service,))
        query = f"SELECT seq, body FROM event WHERE seq < ?{mine} ORDER BY seq DESC LIMIT ?"  # noqa: S608
        end = self._last + 1 if before is None else before
        with self._told():
            rows = self._connection.execute(query, (end, *values, max(0, limit))).fetchall()
        return tuple(decode_event(seq, body) for seq, body in reversed(rows))

    def looks(self, rollout: str) -> Sequence[Look]:
        """Every look at the evidence of a rollout, in order."""
        query = "SELECT number, body FROM look WHERE rollout = ? ORDER BY number"
        with self._told():
            rows = self._connection.execute(query, (rollout,)).fetchall()
        return tuple(decode_look(f"{rollout} {number}", body) for number, body in rows)

    def last_seq(self) -> int:
        """The sequence number of the newest event ever written; 0 if there was none."""
        return self._last

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of disk and file, told to a person. Defects of ours pass through."""
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except OSError as error:
            problem = f"the store cannot be opened: {error.strerror}"
            hint = "check free space and the rights of file and folder"
            raise VoleryError(problem, hint=hint, where=str(self._path)) from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", -1) & 0xFF
            problem, hint = _TROUBLE.get(code, (str(error), "volery doctor"))
            raise VoleryError(problem, hint=hint, where=str(self._path)) from error

    def _load(self) -> dict[str, Mapping[str, object]]:
        documents: dict[str, dict[str, object]] = {kind: {} for kind in KINDS}
        for kind, key, body in self._connection.execute("SELECT kind, key, body FROM document"):
            if kind in documents:  # else a newer version wrote it; it stays in the file
                documents[kind][key] = decode(kind, key, body)
        return sealed(documents)

    def _bounds(self) -> tuple[int, int]:
        """The oldest event's sequence number and the newest one ever given."""
        (last,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'"
        ).fetchone()
        (first,) = self._connection.execute(
            "SELECT coalesce(min(seq), ?) FROM event", (last + 1,)
        ).fetchone()
        return first, last


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _create(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        version = _version(connection, path)
        _configure(connection)
        _refuse_damage(connection)
        _apply_schema(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_read_only(path: Path) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        _version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """A new file, with its schema, appearing at once: one without a schema is always damage."""
    log = path.with_name(path.name + "-wal")
    if log.exists():
        raise VoleryError(
            "the store is gone, but its write-ahead log is there",
            hint=f"move {log.name} away; then restore {path.name} from a backup, or start anew",
            where=str(path),
        )
    new = path.with_name(path.name + ".new")
    for leftover in (new, new.with_name(new.name + "-wal"), new.with_name(new.name + "-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        _configure(connection)
        _apply_schema(connection, 0)
    finally:
        connection.close()
    new.rename(path)
    sync_folder(path.parent)


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_MAX}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        raise VoleryError(
            "this is no store of Volery: it has no schema",
            hint=_REMEDY,
            where=str(path),
        )
    if version > len(_schema()):
        raise VoleryError(
            f"the store was written by a newer Volery (schema {version}, known: {len(_schema())})",
            code=Code.CONFLICT,
            hint="upgrade Volery",
            where=str(path),
        )
    return int(version)


def _refuse_damage(connection: sqlite3.Connection) -> None:
    """Better to say so now than when half of it was used; 30 ms for a full ledger."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _apply_schema(connection: sqlite3.Connection, version: int) -> None:
    """Every schema file after `version`, each in a transaction of its own."""
    for number, script in enumerate(_schema()[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _schema() -> list[str]:
    folder = files("volery.store") / "schema"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(folder / name).read_text("utf-8") for name in names]
