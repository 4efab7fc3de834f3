"""Ports: nobody gets one that another has, whoever that is."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.model.errors import Code, VoleryError
from volery.supervise import ports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of our own, so that only strangers' sockets are shared with other tests."""
    monkeypatch.setattr(ports, "_FOLDER", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def reserved(folder: Path) -> Iterator[list[ports.Reservation]]:
    found: list[ports.Reservation] = []
    yield found
    for reservation in found:
        reservation.close()


def test_every_reservation_is_another_port_of_the_range(
    reserved: list[ports.Reservation],
) -> None:
    reserved += [ports.reserve() for _ in range(50)]
    numbers = {reservation.port for reservation in reserved}
    assert len(numbers) == 50
    assert all(20000 <= number <= 31999 for number in numbers)


def test_the_preferred_port_if_it_is_free(reserved: list[ports.Reservation]) -> None:
    reserved.append(ports.reserve())
    port = reserved[0].port
    reserved.append(ports.reserve(port))
    assert reserved[1].port != port, "it is reserved"
    reserved.pop(0).close()
    reserved.append(ports.reserve(port))
    assert reserved[-1].port == port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_not_given_away(
    host: str, reserved: list[ports.Reservation]
) -> None:
    with socket.socket() as stranger:
        stranger.bind((host, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        reserved.append(ports.reserve(port))
        assert reserved[0].port != port


def test_a_port_on_which_connections_linger_is_for_nobody_new(
    reserved: list[ports.Reservation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every server sets SO_REUSEADDR: without it one could not listen there for a minute."""
    reserved.append(ports.reserve())
    free = reserved.pop()
    free.close()
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    monkeypatch.setattr(ports, "_candidates", lambda preferred: iter([before, free.port]))
    reserved.append(ports.reserve())
    assert reserved[0].port == free.port
    reserved.append(ports.reserve(before))
    assert reserved[1].port == before, "its own"


def test_who_inherits_the_descriptor_keeps_the_port(reserved: list[ports.Reservation]) -> None:
    first = ports.reserve()
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[first.fd]) as heir:
        first.close()
        reserved.append(ports.reserve(first.port))
        assert reserved[0].port != first.port
        heir.communicate(b"\n")
    reserved.append(ports.reserve(first.port))
    assert reserved[1].port == first.port


def test_a_lock_file_that_was_removed_meanwhile_locks_nothing(
    folder: Path, reserved: list[ports.Reservation], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def removed_just_before(fd: int, operation: int) -> None:
        (folder / "ports" / "20555").unlink(missing_ok=True)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", removed_just_before)
    reserved.append(ports.reserve(20555))
    assert reserved[0].port != 20555


def test_a_folder_others_can_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(VoleryError, match="only this user can write") as refused:
        ports.reserve()
    assert refused.value.code is Code.REFUSED and str(folder) in refused.value.hint


@pytest.mark.parametrize("taken_by", ["another user", "a link", "a dangling link", "a file"])
def test_who_takes_the_name_of_the_folder_keeps_nobody_from_a_port(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_by: str
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if taken_by == "another user":
        folder.mkdir(mode=0o755)
        own = Path.lstat
        theirs = os.stat_result((0o40755, 1, 1, 2, os.getuid() + 1, 0, 0, 0, 0, 0))
        monkeypatch.setattr(Path, "lstat", lambda at: theirs if at == folder else own(at))
    elif taken_by == "a file":
        folder.touch()
    else:
        folder.symlink_to(tmp_path / ("elsewhere" if taken_by == "a link" else "nowhere"))
    reservation = ports.reserve()
    assert ports.hold(reservation.port) is None, "all of ours agree on another folder"
    reservation.close()
    used = [path.name for path in tmp_path.iterdir() if (path / "ports").is_dir()]
    assert used == ["locks-1"] and not list((tmp_path / "elsewhere").iterdir())


def test_where_all_names_are_taken_it_says_so(folder: Path) -> None:
    for suffix in ("", *range(-1, -ports.NAMES, -1)):
        folder.with_name(f"{folder.name}{suffix}").touch()
    with pytest.raises(VoleryError, match="others have taken") as refused:
        ports.reserve()
    assert refused.value.code is Code.REFUSED and str(folder) in refused.value.hint


def test_when_all_are_taken_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_can_bind", lambda port, anew: False)
    monkeypatch.setattr(ports, "LAST", ports.FIRST + 10)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(VoleryError, match="no free port"):
        ports.reserve()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
