"""The folders that stateful services keep: which there are, and the trash deleted ones go to.

Deleting is one rename, undoing it another; when it was deleted and until when it can be restored is
part of the new name. So there is nothing to keep in step: whoever is killed between any two
steps has lost nothing. Only purging destroys, and it renames first, so that no half of a volume
can be restored.

Terms: a volume's *name* is `SERVICE/VOLUME-NUMBER`, such as orders-db/data-0.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volery.model.errors import Code, VoleryError

PURGING = "purging~"
_NAME = re.compile(r"([^~]+)~([^~]+)~([0-9]+)~([0-9]+)(?:~(\w*)-([0-9]+))?")


@dataclass(frozen=True)
class Volume:
    """One folder. `deleted_at` and `expires_at` are Unix seconds, None while it is live."""

    service: str
    folder: str
    path: Path
    deleted_at: int | None = None
    expires_at: int | None = None
    deleted_by: tuple[str, int] = ("", 0)
    """Since when which machine had been up when it was deleted, see `machine`."""

    @property
    def name(self) -> str:
        """How people name it."""
        return f"{self.service}/{self.folder}"

    @property
    def exact(self) -> str:
        """A name no other volume has, whichever of its kind were deleted before."""
        return self.name if self.deleted_at is None else f"{self.name}@{self.deleted_at}"

    def size(self) -> int:
        """Bytes of everything in it that can be seen."""
        total = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                try:
                    total += Path(folder, name).lstat().st_size
                except OSError:  # it went away meanwhile, or must not be seen
                    continue
        return total


def machine() -> tuple[str, float]:
    """Which start of which machine this is, "" if that is not told, and for how many seconds it has
    been up."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
    except OSError:  # a sandbox may hide it
        boot = ""
    return boot, time.clock_gettime(time.CLOCK_BOOTTIME)


class PartlyDeleted(VoleryError):
    """Some volumes could not be moved to the trash; `moved` were."""

    def __init__(self, error: VoleryError, moved: list[Volume]) -> None:
        super().__init__(error.message, code=error.code, hint=error.hint, where=error.where)
        self.moved = moved


@dataclass(frozen=True)
class Volumes:
    """The volumes of one environment: `live` and `trash` are folders in its home. What is deleted
    is kept by the clock, and by how long the machine has been up since: a clock may be wrong."""

    live: Path
    trash: Path
    machine: Callable[[], tuple[str, float]] = machine

    def all_live(self) -> list[Volume]:
        """Those that are there for their services."""
        return [
            Volume(service.name, folder.name, folder)
            for service in _folders(self.live)
            for folder in _folders(service)
        ]

    def deleted(self) -> list[Volume]:
        """Those that can be restored, the newest first."""
        found = (_parsed(folder) for folder in _folders(self.trash))
        return sorted((v for v in found if v), key=lambda v: (-(v.deleted_at or 0), v.name))

    def delete(self, now: float, keep: float) -> list[Volume]:
        """Move every live volume to the trash, to stay for `keep` seconds; with 0 it is given up at
        once, and `finish` destroys it. One that cannot be moved keeps no other.

        Raises:
            PartlyDeleted: a folder cannot be moved.
        """
        moved, failed = [], []
        for volume in self.all_live():
            self.trash.mkdir(parents=True, exist_ok=True, mode=0o700)
            target = self._place_in_trash(volume, int(now), int(keep))
            try:
                _move(volume.path, target.path if keep else self._given_up(target))
                moved.append(target)
            except VoleryError as error:
                failed.append(error)
        _drop_empty(self.live)
        if failed:
            raise PartlyDeleted(failed[0], moved)
        return moved

    def _place_in_trash(self, volume: Volume, now: int, keep: int) -> Volume:
        """A name that is free, also when the same volume was deleted a moment ago."""
        taken = {item.exact for item in self.deleted()}
        while f"{volume.name}@{now}" in taken:
            now += 1
        boot, up = self.machine()
        name = f"{volume.service}~{volume.folder}~{now}~{now + keep}~{boot}-{int(up)}"
        return Volume(volume.service, volume.folder, self.trash / name, now, now + keep)

    def restore(self, name: str, tell: Callable[[Volume], None] = lambda _: None) -> Volume:
        """Bring a deleted volume back to where its service looks for it. `tell` writes it down
        first: of what is back and was not written down nobody would know that it is to be kept.

        Raises:
            VoleryError: NOT_FOUND, INVALID (several have this name), CONFLICT (its place is taken),
                or what `tell` raises; then nothing is restored.
        """
        (volume,) = self.chosen(name)
        place = self.live / volume.service / volume.folder
        if place.exists():
            raise VoleryError(
                f"{volume.name} is there already, and may be in use",
                code=Code.CONFLICT,
                hint="volery down --volumes moves it to the trash too; then restore this one",
            )
        back = Volume(volume.service, volume.folder, place)
        tell(back)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _move(volume.path, place)
        return back

    def purge(self, chosen: Sequence[Volume]) -> None:
        """Destroy these deleted volumes for good.

        Raises:
            VoleryError: one of them cannot be destroyed.
        """
        for volume in chosen:
            _move(volume.path, self._given_up(volume))
        _destroy_all(self._given_up(volume) for volume in chosen)

    def empty(self, now: float) -> list[Volume]:
        """Give up what is kept no longer: from now on it cannot be restored; see `finish`."""
        over = [item for item in self.deleted() if self._is_over(item, now)]
        for volume in over:
            _move(volume.path, self._given_up(volume))
        return over

    def finish(self) -> None:
        """Destroy what was given up; one that cannot be destroyed keeps no other.

        Raises:
            VoleryError: one of them cannot be destroyed.
        """
        _destroy_all(item for item in _folders(self.trash) if item.name.startswith(PURGING))

    def _is_over(self, volume: Volume, now: float) -> bool:
        deleted_at, expires_at = volume.deleted_at or 0, volume.expires_at or 0
        (boot, up), (boot_then, up_then) = self.machine(), volume.deleted_by
        same = bool(boot) and boot == boot_then
        return expires_at <= now and not (same and up - up_then < expires_at - deleted_at)

    def _given_up(self, volume: Volume) -> Path:
        return self.trash / f"{PURGING}{volume.path.name}"

    def chosen(self, name: str | None) -> list[Volume]:
        """The deleted volume of this name, or all of them.

        Raises:
            VoleryError: NOT_FOUND, INVALID (several have this name).
        """
        if name is None:
            return self.deleted()
        found = [item for item in self.deleted() if name in (item.name, item.exact)]
        if not found:
            raise VoleryError(
                f"no deleted volume {name!r}", code=Code.NOT_FOUND, hint="volery volumes"
            )
        if len(found) > 1:
            names = ", ".join(item.exact for item in found)
            raise VoleryError(
                f"{len(found)} deleted volumes are called {name}", code=Code.INVALID, hint=names
            )
        return found


def _folders(place: Path) -> Iterator[Path]:
    try:
        yield from [entry for entry in sorted(place.iterdir()) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise VoleryError(
            f"cannot look into {place}: {error.strerror}",
            hint=f"sudo chown -R $(id -un) {place}",
        ) from None


def _parsed(folder: Path) -> Volume | None:
    """What a name in the trash says; None if it is not one of ours."""
    found = _NAME.fullmatch(folder.name)
    if found is None:
        return None
    service, name, deleted_at, expires_at, boot, up = found.groups()
    by = (boot or "", int(up or 0))
    return Volume(service, name, folder, int(deleted_at), int(expires_at), by)


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        raise VoleryError(
            f"cannot move {source} to {target}: {error.strerror}",
            hint=f"mv {source} {target}, as the user who owns it",
        ) from None


def _destroy_all(folders: Iterable[Path]) -> None:
    failed = []
    for folder in folders:
        try:
            _destroy(folder)
        except VoleryError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _destroy(folder: Path) -> None:
    """For good. Where somebody put a link to a bigger disk, only the link is ours."""
    try:
        if folder.is_symlink():
            folder.unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, onerror=_unless_gone)
    except OSError as error:
        raise VoleryError(
            f"cannot delete {folder}: {error.strerror or error}",
            hint=f"rm -r {folder}, as the user who owns what is in it",
        ) from None


def _unless_gone(_: object, __: str, raised: tuple[Any, BaseException, Any]) -> None:
    """Another one may be destroying the same: the control plane, or a person."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def _drop_empty(place: Path) -> None:
    """Folders of services that have no volume any more."""
    for folder in list(_folders(place)):
        if not any(folder.iterdir()):
            folder.rmdir()
