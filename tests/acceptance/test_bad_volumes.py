"""Volumes that become read-only or vanish under running instances: told, survived where somebody
else has the data, and never made worse by automation."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
from integration.tiny_disk import TinyDisk, tiny_disk

from acceptance.project import Project, until
from acceptance.replicated.bench import (
    Writer,
    address,
    lost,
    primary,
    roles,
    settled,
    stateful,
    store,
    volume,
)


@pytest.fixture
def disk(project: Project) -> Iterator[TinyDisk]:
    """A file system of its own for the volume of store-0."""
    place = volume(project, 0)
    place.parent.mkdir(parents=True)
    with tiny_disk(place) as made:
        try:
            yield made
        finally:
            project.close()


def read_only(disk: TinyDisk) -> None:
    """Between two writes: what is open for writing keeps a disk busy."""

    def done() -> bool:
        try:
            disk.remount("ro")
        except subprocess.CalledProcessError:
            return False
        return True

    until(done, "the disk is read-only")


def kinds(project: Project) -> list[str]:
    """The kinds of all events of the store."""
    return [line.split()[1] for line in project.ok("events", "store").out.splitlines()]


def test_a_primary_whose_volume_becomes_read_only_is_replaced(
    project: Project, disk: TinyDisk
) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        writer.more()
        read_only(disk)
        until(lambda: primary(project) != "store-0", "another primary")
        writer.more()
        told = project.ok("events", "--why", "store").out
        assert "store-0 cannot write its volume: it is read-only" in told, told
        until(lambda: "instance.unstartable" in kinds(project), "the former primary cannot start")
        writer.more(200)
        found = kinds(project)
        assert found.count("instance.unstartable") == 1 and found.count("state.failover") == 1
        assert store(project)["state"] == "degraded"
        disk.remount("rw")
        until(lambda: settled(project), "everything is whole again")
        writer.more()
    assert roles(project)["store-0"] == "replica"
    assert not lost(project, writer)
    print("outage", writer.longest)


def test_a_volume_that_vanished_is_told_and_nothing_is_done_to_who_still_has_it_open(
    project: Project,
) -> None:
    """Its process has the last copy: whoever replaced it would put an empty one in its place."""
    project.service("plain", state={"volume": "data"})
    project.manifest["services"]["plain"]["health"]["live"] = "/healthz"
    project.write()
    project.ok("up")
    assert "plain-0 begins with a new, empty volume" in project.ok("events", "--why", "plain").out
    before = project.status()["services"]["plain"]["instances"][0]
    place = project.home / "trial" / "dev" / "volumes" / "plain" / "data-0"
    shutil.rmtree(place)
    until(lambda: "volume.trouble" in project.ok("events", "plain").out, "it is told")
    shown = project.status()["services"]["plain"]["instances"][0]
    assert shown["volume"] == "is gone" and "is gone" in project.ok("status", "plain").out
    os.kill(before["pid"], signal.SIGSTOP)
    try:
        until(lambda: "degraded" in project.ok("status").out or "down" in project.ok("status").out)
        assert "heal.started" not in project.ok("events", "plain").out
    finally:
        os.kill(before["pid"], signal.SIGCONT)
    until(lambda: project.get("/plain/")[0] == 200, "it serves on")
    assert project.status()["services"]["plain"]["instances"][0]["pid"] == before["pid"]
    project.ok("restart", "plain")
    told = project.ok("events", "plain").out
    assert told.count("volume.made") == 2, told
    assert place.is_dir()
