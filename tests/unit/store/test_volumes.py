"""Volumes and their trash: what is deleted comes back, whoever is killed between two steps."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from volery.model.errors import Code, VoleryError
from volery.store.volumes import Volumes, machine

DAY = 86400.0


@pytest.fixture
def there(tmp_path: Path) -> Volumes:
    for name in ("db/data-0", "db/data-1", "cache/files-1"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
        (tmp_path / "volumes" / name / "content").write_text(name)
    boots = count()
    return Volumes(tmp_path / "volumes", tmp_path / "trash", lambda: (f"b{next(boots)}", 1.0))


def test_of_a_link_to_another_disk_only_the_link_is_purged(there: Volumes, tmp_path: Path) -> None:
    elsewhere = tmp_path / "big"
    (there.live / "db" / "data-0").rename(elsewhere)
    (there.live / "db" / "data-0").symlink_to(elsewhere)
    there.delete(100.0, 0)
    there.finish()
    assert names(there) == ([], [])
    assert list(there.trash.iterdir()) == []
    assert (elsewhere / "content").read_text() == "db/data-0"


def names(volumes: Volumes) -> tuple[list[str], list[str]]:
    live = [item.name for item in volumes.all_live()]
    return live, [item.exact for item in volumes.deleted()]


def test_deleting_and_restoring_is_a_rename(there: Volumes) -> None:
    moved = there.delete(1000.0, DAY)
    assert [item.exact for item in moved] == [
        "cache/files-1@1000",
        "db/data-0@1000",
        "db/data-1@1000",
    ]
    assert names(there) == ([], [item.exact for item in moved])
    assert moved[0].expires_at == 1000 + DAY and moved[0].size() == len("cache/files-1")
    back = there.restore("db/data-1")
    assert (back.path / "content").read_text() == "db/data-1"
    assert there.all_live() == [back]


def test_a_place_that_is_taken_is_not_overwritten(there: Volumes) -> None:
    there.delete(1000.0, DAY)
    (there.live / "db" / "data-0").mkdir(parents=True)
    with pytest.raises(VoleryError) as refused:
        there.restore("db/data-0")
    assert refused.value.code is Code.CONFLICT


def test_the_same_volume_deleted_twice_in_a_second_is_kept_twice(there: Volumes) -> None:
    there.delete(1000.0, DAY)
    (there.live / "db" / "data-0").mkdir(parents=True)
    there.delete(1000.0, DAY)
    with pytest.raises(VoleryError) as refused:
        there.restore("db/data-0")
    assert refused.value.code is Code.INVALID and "db/data-0@1001" in refused.value.hint
    there.restore("db/data-0@1000")


def test_what_expired_is_destroyed_and_nothing_else(there: Volumes) -> None:
    there.delete(1000.0, 60.0)
    assert there.empty(1059.0) == []
    assert len(there.empty(1060.0)) == 3
    there.finish()
    assert names(there) == ([], []) and list(there.trash.iterdir()) == []


def test_purging_that_was_interrupted_is_finished_and_never_restored(there: Volumes) -> None:
    there.delete(1000.0, DAY)
    first = there.deleted()[0].path
    first.rename(first.with_name(f"purging~{first.name}"))  # killed before it was destroyed
    assert len(there.deleted()) == 2
    there.empty(1001.0)
    there.finish()
    assert sorted(path.name.rpartition("~")[0] for path in there.trash.iterdir()) == [
        "db~data-0~1000~87400",
        "db~data-1~1000~87400",
    ]
    (one,) = there.chosen("db/data-0")
    assert one.name == "db/data-0"
    there.purge([one])
    assert len(there.chosen(None)) == 1
    there.purge(there.chosen(None))
    assert list(there.trash.iterdir()) == []


def test_deleting_that_was_interrupted_goes_on(there: Volumes) -> None:
    there.delete(1000.0, DAY)
    there.restore("cache/files-1")  # as if the first deletion had not reached it
    there.delete(1005.0, DAY)
    assert names(there)[0] == [] and len(there.deleted()) == 3


def test_what_is_not_ours_in_the_trash_is_left_alone(there: Volumes) -> None:
    (there.trash / "notes").mkdir(parents=True)
    (there.trash / "a~b~c~d").mkdir()
    assert there.deleted() == [] and there.empty(1e12) == []
    with pytest.raises(VoleryError) as refused:
        there.chosen("notes")
    assert refused.value.code is Code.NOT_FOUND


def test_an_environment_without_volumes_has_none(tmp_path: Path) -> None:
    nothing = Volumes(tmp_path / "volumes", tmp_path / "trash")
    assert nothing.delete(1.0, 0.0) == [] and names(nothing) == ([], [])


def test_with_no_time_to_keep_them_they_are_destroyed_at_once(there: Volumes) -> None:
    there.delete(1000.0, DAY)
    (there.live / "db" / "data-0").mkdir(parents=True)
    assert [item.exact for item in there.delete(1000.0, 0.0)] == ["db/data-0@1001"]
    assert len(names(there)[1]) == 3, "those that can be restored are not touched"
    there.finish()
    assert len(list(there.trash.iterdir())) == 3


def test_a_folder_that_may_not_be_entered_is_named(
    there: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)  # root may enter every folder
    with pytest.raises(VoleryError, match=f"cannot look into {there.live}: Permission denied"):
        there.all_live()


def test_one_that_cannot_be_destroyed_keeps_no_other(
    there: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    destroy = shutil.rmtree

    def refusing(folder: Path, **more: Any) -> None:
        if "cache" in folder.name:
            raise PermissionError(13, "Permission denied")
        destroy(folder, **more)

    monkeypatch.setattr("volery.store.volumes.shutil.rmtree", refusing)
    there.delete(1000.0, 60.0)
    assert len(there.empty(1060.0)) == 3
    with pytest.raises(VoleryError, match=r"cannot delete .*cache~files-1.*Permission denied"):
        there.finish()
    (left,) = there.trash.iterdir()
    assert left.name.startswith("purging~cache~files-1~1000~1060")


def test_two_at_once_destroy_the_same_volume(there: Volumes) -> None:
    """The control plane, and somebody who purges."""
    for number in range(2000):
        (there.live / "db" / "data-0" / f"{number % 20}" / "deep").mkdir(
            parents=True, exist_ok=True
        )
        (there.live / "db" / "data-0" / f"{number % 20}" / "deep" / f"{number}").touch()
    there.delete(1000.0, 0)
    begin = threading.Barrier(2)

    def finish(_: int) -> None:
        begin.wait()
        there.finish()

    with ThreadPoolExecutor(2) as both:
        list(both.map(finish, range(2)))
    assert list(there.trash.iterdir()) == []


@pytest.mark.parametrize("right", [1_000_000_000.0, 5.0])
def test_a_clock_that_was_wrong_destroys_nothing_before_its_time(
    there: Volumes, right: float
) -> None:
    """Behind when it was deleted, as before a machine has asked for the time; or ahead for once."""
    up = 100.0
    mine = replace(there, machine=lambda: ("boot1", up))
    deleted = mine.delete(5.0, DAY)
    assert len(deleted) == 3
    assert mine.empty(right + 2 * DAY) == []
    up += DAY - 1
    assert mine.empty(right + 2 * DAY) == []
    up += 1
    assert len(mine.empty(right + 2 * DAY)) == 3


def test_after_a_start_of_the_machine_only_its_clock_counts(there: Volumes) -> None:
    replace(there, machine=lambda: ("boot1", 1e6)).delete(1000.0, DAY)
    started = replace(there, machine=lambda: ("boot2", 5.0))
    assert started.empty(999.0 + DAY) == [] and len(started.empty(1000.0 + DAY)) == 3


def test_where_it_is_not_told_which_start_it_is_only_the_clock_counts(there: Volumes) -> None:
    hidden = replace(there, machine=lambda: ("", 1e6))
    hidden.delete(1000.0, DAY)
    assert len(hidden.deleted()) == 3 and len(hidden.empty(1000.0 + DAY)) == 3


def test_what_an_older_version_deleted_is_known(there: Volumes) -> None:
    (there.trash / "db~data-7~1000~2000").mkdir(parents=True)
    assert [item.exact for item in there.deleted()] == ["db/data-7@1000"]
    assert there.empty(1999.0) == [] and len(there.empty(2000.0)) == 1


def test_the_machine_knows_how_long_it_runs() -> None:
    (boot, before), (same, after) = machine(), machine()
    assert boot == same and len(boot) >= 8 and 0 < before <= after
