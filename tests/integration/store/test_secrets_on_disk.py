"""Secrets on a real disk: private, encrypted, never lost, never shown."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.tiny_disk import TinyDisk, tiny_disk

from volery.model.errors import Code, VoleryError
from volery.store.files import hold
from volery.store.secrets import SecretInfo, Secrets


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyDisk]:
    with tiny_disk(tmp_path / "tiny") as disk:
        yield disk


VALUE = "correct horse battery staple"


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "secrets.d", now=lambda: 12.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "secrets.d"


def test_gives_back_what_was_set(secrets: Secrets) -> None:
    assert secrets.set("B", VALUE) == SecretInfo("B", 1, 12.5)
    secrets.set("A", "é\nzwei")
    secrets.set("B", "new")
    assert secrets.values(["B", "A"]) == {"B": "new", "A": "é\nzwei"}
    assert secrets.versions(["A", "B"]) == {"A": 1, "B": 2}
    assert secrets.names() == [SecretInfo("A", 1, 12.5), SecretInfo("B", 2, 12.5)]


def test_nothing_there_is_no_error_and_makes_no_files(secrets: Secrets, folder: Path) -> None:
    assert secrets.names() == []
    assert secrets.values([]) == {}
    assert not folder.exists()


def test_whoever_wants_none_is_not_kept_by_what_cannot_be_read(
    secrets: Secrets, folder: Path
) -> None:
    secrets.set("A", VALUE)
    (folder / "key").chmod(0o644)
    assert secrets.values(()) == {} and secrets.versions(()) == {}
    with pytest.raises(VoleryError, match="others may read"):
        secrets.versions(["A"])


def test_missing_names_are_told_together(secrets: Secrets) -> None:
    secrets.set("A", VALUE)
    with pytest.raises(VoleryError, match="X, Y") as caught:
        secrets.values(["A", "X", "Y"])
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.hint == "volery secret set X"


def test_versions_are_of_those_that_are_set(secrets: Secrets) -> None:
    secrets.set("A", VALUE)
    secrets.set("B", VALUE)
    secrets.remove("B")
    assert secrets.versions(["A", "B", "X"]) == {"A": 1}


def test_versions_grow_over_removal(secrets: Secrets) -> None:
    secrets.set("A", "one")
    secrets.remove("A")
    assert secrets.names() == []
    with pytest.raises(VoleryError, match="no secret A"):
        secrets.values(["A"])
    with pytest.raises(VoleryError, match="no secret A"):
        secrets.remove("A")
    assert secrets.set("A", "two").version == 2


def test_empty_value_is_a_value(secrets: Secrets) -> None:
    secrets.set("A", "")
    assert secrets.values(["A"]) == {"A": ""}
    assert [info.name for info in secrets.names()] == ["A"]


def test_files_are_private_and_show_no_value(secrets: Secrets, folder: Path) -> None:
    old = os.umask(0)
    try:
        secrets.set("PAYMENT_KEY", VALUE)
        secrets.set("PAYMENT_KEY", VALUE + "2")
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"horse" not in file.read_bytes()
        assert b"PAYMENT_KEY" not in file.read_bytes()
    assert sorted(file.name for file in folder.iterdir()) == ["key", "secrets", "secrets.lock"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_that_others_may_read_is_refused(secrets: Secrets, folder: Path, mode: int) -> None:
    secrets.set("A", VALUE)
    (folder / "key").chmod(mode)
    with pytest.raises(VoleryError) as caught:
        secrets.values(["A"])
    assert caught.value.code is Code.REFUSED
    assert caught.value.hint == f"chmod 600 {folder / 'key'}"
    with pytest.raises(VoleryError):
        secrets.set("B", VALUE)
    (folder / "key").chmod(0o600)
    assert secrets.values(["A"]) == {"A": VALUE}


def test_lost_key_is_told_and_never_made_anew(secrets: Secrets, folder: Path) -> None:
    secrets.set("A", VALUE)
    (folder / "key").unlink()
    for attempt in (lambda: secrets.values(["A"]), lambda: secrets.set("B", VALUE), secrets.names):
        with pytest.raises(VoleryError, match="lost") as caught:
            attempt()
        assert caught.value.hint
    assert not (folder / "key").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("key", b""),
        ("key", b"nonsense"),
        ("key", b"A" * 43 + b"=\n"),
        ("secrets", b""),
        ("secrets", b"gAAAA nonsense"),
    ],
)
def test_damage_is_told(secrets: Secrets, folder: Path, file: str, content: bytes) -> None:
    secrets.set("A", VALUE)
    (folder / file).write_bytes(content)
    for attempt in (lambda: secrets.values(["A"]), lambda: secrets.set("B", VALUE)):
        with pytest.raises(VoleryError) as caught:
            attempt()
        assert caught.value.hint
        assert caught.value.where == str(folder / file) or file == "key"
    assert (folder / file).read_bytes() == content


def test_key_that_is_a_link_or_a_pipe_is_refused(secrets: Secrets, folder: Path) -> None:
    secrets.set("A", VALUE)
    (folder / "key").rename(folder / "elsewhere")
    (folder / "key").symlink_to("elsewhere")
    with pytest.raises(VoleryError, match="cannot open key"):
        secrets.values(["A"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1A", VALUE),
        ("", VALUE),
        ("A-B", VALUE),
        ("A\n", VALUE),
        (f"A={VALUE}", ""),
        ("A", VALUE + "\0"),
        ("A", VALUE * 4000),
        ("A", VALUE + "\udcff"),
    ],
)
def test_invalid_is_refused_without_showing_the_value(
    secrets: Secrets, folder: Path, name: str, value: str
) -> None:
    with pytest.raises(VoleryError) as caught:
        secrets.set(name, value)
    assert caught.value.code is Code.INVALID
    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.as_json())
    assert "horse" not in told
    assert secrets.names() == []


def test_largest_value_fits(secrets: Secrets) -> None:
    secrets.set("A", "x" * 65536)
    assert secrets.values(["A"]) == {"A": "x" * 65536}


def test_repr_shows_no_value(secrets: Secrets) -> None:
    info = secrets.set("A", VALUE)
    with secrets._changing() as entries:
        shown = repr(entries)
    assert "horse" not in shown + repr(info) + repr(secrets)


def test_error_while_changing_changes_nothing_and_frees_the_lock(secrets: Secrets) -> None:
    secrets.set("A", VALUE)
    with pytest.raises(VoleryError), secrets._changing() as entries:
        entries.clear()
        raise VoleryError("stop")
    assert secrets.values(["A"]) == {"A": VALUE}
    secrets.set("A", "again")


def test_lock_held_too_long_is_told(folder: Path) -> None:
    folder.mkdir()
    lock = hold(folder / "secrets.lock", 0.0, "unused")
    with pytest.raises(VoleryError, match="somebody") as caught:
        hold(folder / "secrets.lock", 0.1, "somebody holds it")
    os.close(lock)
    assert caught.value.code is Code.CONFLICT


SETS_MANY = """
import sys
from pathlib import Path
from volery.store.secrets import Secrets
secrets = Secrets(Path(sys.argv[1]))
for n in range(25):
    secrets.set(f"{sys.argv[2]}_{n}", sys.argv[2] * 100)
    secrets.set("SHARED", sys.argv[2])
"""


def test_commands_at_once_lose_nothing(folder: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", SETS_MANY, str(folder), name]) for name in "ABCD"
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    secrets = Secrets(folder)
    assert {info.name for info in secrets.names()} == {"SHARED"} | {
        f"{name}_{n}" for name in "ABCD" for n in range(25)
    }
    assert secrets.versions(["SHARED"]) == {"SHARED": 100}


def test_kill_9_while_setting_leaves_old_or_new(folder: Path) -> None:
    secrets = Secrets(folder)
    secrets.set("A", VALUE)
    for _ in range(5):
        before = secrets.set("SHARED", "mine").version
        child = subprocess.Popen(
            [sys.executable, "-c", SETS_MANY.replace("25", "10**6"), str(folder), "B"]
        )
        while secrets.versions(["SHARED"])["SHARED"] < before + 3:
            assert child.poll() is None
        child.kill()
        child.wait()
        assert secrets.values(["A"]) == {"A": VALUE}
        assert secrets.values(["SHARED"]) == {"SHARED": "B"}


def test_full_disk_is_told_and_changes_nothing(tiny: TinyDisk) -> None:
    secrets = Secrets(tiny.folder / "s")
    secrets.set("A", VALUE)
    tiny.fill()
    with pytest.raises(VoleryError, match="No space left") as caught:
        secrets.set("A", "x" * 60_000)
    assert caught.value.hint
    assert secrets.values(["A"]) == {"A": VALUE}
    tiny.free()
    assert secrets.set("A", "x" * 60_000).version == 2
