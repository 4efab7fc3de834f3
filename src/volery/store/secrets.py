"""Secrets: values that services get and nobody else sees, encrypted at rest.

Two files in one private folder: `key`, made once and never changed, and `secrets`, everything
else, encrypted and authenticated with it (Fernet) and replaced as a whole. Version numbers of a
name only grow, also when it is removed and set again, so (name, version) names one value for ever.

Values never appear in a `repr` or an error. Losing the key is losing the values: it is never made
anew while there is something it should open.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from volery.model.errors import Code, VoleryError
from volery.store.files import hold, replace_file

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

VALUE_BYTES_MAX = 64 * 2**10
LOCK_SECONDS = 10.0
FORMER_VALUES = 10
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class SecretInfo:
    """What may be shown of a secret. `changed_at` is Unix seconds."""

    name: str
    version: int
    changed_at: float


@dataclass(frozen=True)
class _Entry:
    """One name; without a value once it was removed, remembering its version.

    The latest former values are kept, encrypted too, to mask them in what was written before.
    """

    version: int
    changed_at: float
    value: str | None = field(repr=False)
    former: tuple[str, ...] = field(default=(), repr=False)

    def changed(self, value: str | None, now: float, version: int) -> _Entry:
        """The same name with another value, or none."""
        former = self.former if self.value in (None, value) else (self.value or "", *self.former)
        return _Entry(version, now, value, former[:FORMER_VALUES])


_FILE: TypeAdapter[dict[str, _Entry]] = TypeAdapter(dict[str, _Entry])


class Secrets:
    """The secrets of one environment.

    Every method raises VoleryError: REFUSED if others may read the key, FAILED if key or file are
    lost, damaged or cannot be written, CONFLICT if another command holds the lock too long.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._key = folder / "key"
        self._file = folder / "secrets"
        self._now = now

    def set(self, name: str, value: str) -> SecretInfo:
        """Store a value under a name, as a new version.

        Raises:
            VoleryError: INVALID for a name no variable can have, or a value too long or with NUL.
        """
        _refuse_invalid(name, value)
        with self._changing() as entries:
            before = entries.get(name, _Entry(0, 0.0, None))
            entries[name] = before.changed(value, self._now(), before.version + 1)
        return _shown(name, entries[name])

    def remove(self, name: str) -> None:
        """Forget a value. Raises VoleryError NOT_FOUND if there is none."""
        with self._changing() as entries:
            self._refuse_missing(entries, [name])
            entry = entries[name]
            entries[name] = entry.changed(None, self._now(), entry.version)

    def names(self) -> list[SecretInfo]:
        """What is set, by name, without the values."""
        entries = self._read()
        return [_shown(n, e) for n, e in sorted(entries.items()) if e.value is not None]

    def values(self, names: Iterable[str]) -> dict[str, str]:
        """The values of these names. Raises VoleryError NOT_FOUND naming all that are not set.

        For no names nothing is read: a lost key keeps nobody who has no secrets.
        """
        wanted = list(names)
        entries = self._read() if wanted else {}
        self._refuse_missing(entries, wanted)
        return {name: entries[name].value or "" for name in wanted}

    def ever(self) -> list[str]:
        """Every value that is set or was, for masking: what was written then may be shown now."""
        entries = self._read().values()
        now = [entry.value for entry in entries if entry.value is not None]
        return now + [value for entry in entries for value in entry.former]

    def mark(self) -> tuple[int, int] | None:
        """Another one whenever something was set or removed; None while nothing ever was."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def versions(self, names: Iterable[str]) -> dict[str, int]:
        """The versions of those of these names that are set. For no names nothing is read."""
        wanted = list(names)
        entries = self._read() if wanted else {}
        known = ((name, entries.get(name)) for name in wanted)
        return {name: entry.version for name, entry in known if entry and entry.value is not None}

    def _refuse_missing(self, entries: Mapping[str, _Entry], names: Iterable[str]) -> None:
        missing = [n for n in names if n not in entries or entries[n].value is None]
        if missing:
            raise VoleryError(
                f"no secret {', '.join(missing)}",
                code=Code.NOT_FOUND,
                hint=f"volery secret set {missing[0]}",
            )

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Entry]]:
        """The entries, to be edited; written back whole while nobody else can."""
        self._make_folder()
        problem = "another command is changing the secrets"
        lock = hold(self._folder / "secrets.lock", LOCK_SECONDS, problem)
        try:
            entries = self._read()
            yield entries
            cipher = self._cipher() if self._key.exists() else self._make_key()
            replace_file(self._file, cipher.encrypt(_FILE.dump_json(entries)))
        finally:
            os.close(lock)

    def _read(self) -> dict[str, _Entry]:
        from cryptography.fernet import InvalidToken

        content = self._content(self._file)
        if content is None:
            return {}
        try:
            return _FILE.validate_json(self._cipher().decrypt(content), extra="ignore")
        except (InvalidToken, ValidationError):
            raise VoleryError(
                "the secrets cannot be opened: the key is another one, or the file is damaged",
                hint="restore both files from one backup; or move both away, set them again, and"
                " `volery restart` who uses them",
                where=str(self._file),
            ) from None  # the cause could quote a value

    def _cipher(self) -> Fernet:
        from cryptography.fernet import Fernet

        content = self._content(self._key)
        if content is None:
            raise VoleryError(
                "the key of the secrets is lost",
                hint=f"restore it from a backup; or move {self._file} away, set them again, and"
                " `volery restart` who uses them",
                where=str(self._key),
            )
        try:
            return Fernet(content.strip())
        except ValueError:
            raise VoleryError(
                "the key of the secrets is damaged",
                hint=f"restore it from a backup; or move it and {self._file} away, set them again,"
                " and `volery restart` who uses them",
                where=str(self._key),
            ) from None

    def _make_key(self) -> Fernet:
        from cryptography.fernet import Fernet

        key = Fernet.generate_key()
        replace_file(self._key, key + b"\n")
        return Fernet(key)

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _content(self, path: Path) -> bytes | None:
        """What is in a file; None if there is none."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if path == self._key and stat.S_IMODE(status.st_mode) & 0o077:
                raise VoleryError(
                    f"others may read the key of the secrets ({stat.filemode(status.st_mode)})",
                    code=Code.REFUSED,
                    hint=f"chmod 600 {path}",
                    where=str(path),
                )
            try:
                return file.read()
            except OSError as error:
                raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> VoleryError:
    hint = "check that it is a plain file of yours, and free space"
    return VoleryError(f"cannot open {path.name}: {error.strerror}", hint=hint, where=str(path))


def _shown(name: str, entry: _Entry) -> SecretInfo:
    return SecretInfo(name, entry.version, entry.changed_at)


def _refuse_invalid(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        shown = name.partition("=")[0][:60]  # NAME=VALUE must not end up in an error
        raise VoleryError(
            f"a secret's name must be letters, digits and _, not starting with a digit: {shown!r}",
            code=Code.INVALID,
            hint="volery secret set PAYMENT_KEY",
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise VoleryError(
            f"the value of {name} must be UTF-8 text",
            code=Code.INVALID,
            hint="encode it, for example with base64",
        ) from None  # the cause quotes the value
    if size > VALUE_BYTES_MAX or "\0" in value:
        problem = "must not contain a NUL character" if "\0" in value else f"has {size} bytes"
        raise VoleryError(
            f"the value of {name} {problem}; at most 64 KiB of text are allowed",
            code=Code.INVALID,
            hint="keep large or binary data in a file or a volume",
        )
