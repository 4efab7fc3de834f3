from __future__ import annotations

import errno
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from volery.model.errors import Code, VoleryError
from volery.supervise.ports import reserve
from volery.traffic import launch
from volery.traffic.addresses import EdgePorts, check_port
from volery.traffic.proxy import envoy_binary, identity


@pytest.mark.parametrize(("exists", "epoch"), [(True, "3"), (False, "0")])
def test_a_successor_needs_the_memory_it_shares(tmp_path: Path, exists: bool, epoch: str) -> None:
    shared = tmp_path / "shared"
    if exists:
        shared.touch()
    command = [sys.executable, "-I", "-S", launch.__file__, str(shared), "3", "/bin/echo", "--more"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"--restart-epoch {epoch} --more\n"


def test_an_identity_is_for_ever(tmp_path: Path) -> None:
    assert identity(tmp_path) == identity(tmp_path)
    (tmp_path / "other").mkdir()
    assert identity(tmp_path) != identity(tmp_path / "other")


@pytest.mark.parametrize("torn", ["", '{"base_id": 12'])
def test_what_a_power_cut_tore_is_chosen_anew(tmp_path: Path, torn: str) -> None:
    (tmp_path / "identity.json").write_text(torn)
    assert identity(tmp_path) == identity(tmp_path)
    (tmp_path / "edges.json").write_text(torn)
    ports = EdgePorts(tmp_path / "edges.json")
    ports.open(())
    assert ports.port("front", "a", "web") in ports
    ports.close()


def test_the_chosen_envoy_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLERY_ENVOY", raising=False)
    assert Path(envoy_binary()).exists()
    monkeypatch.setenv("VOLERY_ENVOY", sys.executable)
    assert envoy_binary() == sys.executable
    monkeypatch.setenv("VOLERY_ENVOY", "/nowhere/envoy")
    with pytest.raises(VoleryError, match="/nowhere/envoy") as raised:
        envoy_binary()
    assert raised.value.code is Code.INVALID
    assert raised.value.hint


def test_an_address_of_another_machine_is_told_with_a_remedy() -> None:
    with pytest.raises(VoleryError, match=r"cannot listen on 203\.0\.113\.1:8080") as raised:
        check_port("203.0.113.1", 8080)
    assert "gateway.host" in raised.value.hint


def test_edge_ports_are_written_down(tmp_path: Path) -> None:
    first = EdgePorts(tmp_path / "edges.json")
    first.open(())
    port = first.port("front", "a", "web")
    assert 20_000 <= port < 32_000
    assert first.port("front", "b", "web") != port
    first.close()
    second = EdgePorts(tmp_path / "edges.json")
    second.open(())
    assert second.port("front", "a", "web") == port
    second.close()


def test_a_port_that_a_full_disk_kept_from_being_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    first = EdgePorts(tmp_path / "edges.json")
    first.open(())
    with monkeypatch.context() as patched:
        patched.setattr("volery.traffic.addresses.write_atomically", full)
        port = first.port("front", "a", "web")
        with pytest.raises(OSError):
            first.write()
    assert first.port("front", "a", "web") == port
    first.close()
    monkeypatch.setattr("volery.traffic.addresses.write_atomically", full)
    second = EdgePorts(tmp_path / "edges.json")
    second.open(())  # what is written already needs no room
    assert second.port("front", "a", "web") == port
    second.close()


def test_a_port_that_our_envoy_listens_on_is_nobody_else_s_when_it_stops(tmp_path: Path) -> None:
    """A reservation is gone with the control plane that made it, and so the next one makes it."""
    first = EdgePorts(tmp_path / "edges.json")
    first.open(())
    port = first.port("front", "a", "web")
    first.close()
    second = EdgePorts(tmp_path / "edges.json")
    with socket.create_server(("127.0.0.1", port)):
        second.open({port})
    try:
        assert second.port("front", "a", "web") == port
        with closing(reserve(port)) as another:
            assert another.port != port
    finally:
        second.close()
    with closing(reserve(port)) as free:
        assert free.port == port


@pytest.mark.parametrize(("edge", "remedy"), [(True, "stop it"), (False, "gateway.port")])
def test_a_port_that_is_taken_is_told_with_the_remedy_for_it(edge: bool, remedy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(VoleryError, match=f"port {port} is in use by") as raised:
            check_port("127.0.0.1", port, edge=edge)
    assert remedy in raised.value.hint
    assert edge is not ("gateway.port" in raised.value.hint)
