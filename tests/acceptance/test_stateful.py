"""Stateful services with roles, tried with a tiny replicated store and real processes."""

from __future__ import annotations

import shutil
import signal

from acceptance.project import Project, until
from acceptance.replicated.bench import (
    Writer,
    address,
    ask,
    gone,
    kill,
    lost,
    pid,
    primary,
    roles,
    settled,
    stateful,
    store,
    volume,
)


def is_told(project: Project, variable: str, words: str) -> None:
    """Who asks at this address is told so."""
    until(lambda: words in ask(address(project, variable), "GET"), f"{variable}: {words}")


def test_names_volumes_and_roles_are_the_same_for_ever(project: Project) -> None:
    stateful(project)
    project.ok("up")
    first = {"store-0": "primary", "store-1": "replica", "store-2": "replica"}
    until(lambda: roles(project) == first, "all have their roles")
    events = project.ok("--output", "json", "events").out.splitlines()
    starts = [line for line in events if '"instance.started"' in line and "store-" in line]
    assert [f"store-{number} starts" in line for number, line in enumerate(starts)] == [True] * 3
    with Writer(address(project, "STORE_URL")) as writer:
        writer.more()
    is_told(project, "STORE_URL", "ROLE primary")
    is_told(project, "STORE_REPLICAS_URL", "ROLE replica")
    assert volume(project, 0).is_dir() and volume(project, 2).is_dir()
    project.ok("down")
    project.ok("up")
    assert primary(project) == "store-0" and not lost(project, writer)


def test_a_killed_primary_that_comes_back_in_time_stays_the_primary(project: Project) -> None:
    stateful(project, failover="60s")
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        kill(pid(project, "store-0"))
        writer.more(50)
    assert primary(project) == "store-0" and store(project)["primary"]["term"] == 1
    assert not lost(project, writer)
    print("outage", writer.longest)


def test_a_killed_primary_that_does_not_come_back_is_replaced(project: Project) -> None:
    stateful(project, failover="1s")
    project.manifest["services"]["store"]["env"] = {"BACK_AFTER": "30"}
    project.write()
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        writer.more()
        kill(pid(project, "store-0"))
        writer.more(50)
        until(lambda: settled(project), "everything is whole again")
        writer.more()
    assert primary(project) != "store-0" and roles(project)["store-0"] == "replica"
    assert not lost(project, writer)
    print("outage", writer.longest)


def test_a_primary_that_hangs_is_killed_and_replaced(project: Project) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        writer.more()
        kill(pid(project, "store-0"), signal.SIGSTOP)
        writer.more(50)
        until(lambda: settled(project), "everything is whole again")
    assert primary(project) != "store-0"
    assert not lost(project, writer)
    print("outage", writer.longest)


def test_a_switchover_by_hand_stalls_writes_for_a_moment_only(project: Project) -> None:
    backup, demote = "python3 -S store.py backup", "python3 -S store.py demote"
    stateful(project, backup=backup, demote=demote)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        done = project.ok("--output", "json", "switchover", "store", "--to", "store-2").json
        assert done["instance"] == "store-2" and done["term"] == 2
        until(lambda: settled(project), "everything is whole again")
        writer.more()
        assert "already" in project.volery("switchover", "store", "--to", "store-2").err
        assert "no replica in sync" in project.volery("switchover", "store", "--to", "nobody").err
        (volume(project, 2) / "backup-fails").touch()
        failed = project.volery("switchover", "store")
        assert failed.code == 1 and "backup of store-2 failed" in failed.err, failed.text
        writer.more()
    assert primary(project) == "store-2" and (volume(project, 0) / "backup").exists()
    assert not lost(project, writer)
    print("outage", writer.longest)


def test_an_update_takes_the_replicas_first_and_the_primary_last(project: Project) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        project.manifest["services"]["store"]["env"] = {"NEW": "1"}
        project.write()
        project.ok("deploy", "store")
        until(lambda: settled(project), "everything is whole again")
        writer.more()
    assert primary(project) != "store-0"
    assert not lost(project, writer)
    events = project.ok("--output", "json", "events").out.splitlines()
    drained = [line for line in events if '"instance.draining"' in line and "store-" in line]
    names = ("store-2", "store-1", "store-0")
    assert all(name in line for name, line in zip(names, drained, strict=True)), drained
    print("outage", writer.longest)


def test_sizes_change_and_no_copy_is_lost(project: Project) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        project.ok("scale", "store", "4")
        until(lambda: settled(project, 4), "four of them")
        project.ok("switchover", "store", "--to", "store-3")
        until(lambda: settled(project, 4), "all in sync again")
        project.ok("scale", "store", "2")
        until(lambda: settled(project, 2), "two of them")
        writer.more()
    assert set(roles(project)) == {"store-0", "store-1"}
    assert volume(project, 3).is_dir()
    assert not lost(project, writer)


def answers(project: Project, number: int, how: str) -> None:
    """From now on the role command of one instance misbehaves; "" mends it."""
    mode = volume(project, number) / "role-mode"
    mode.write_text(how) if how else mode.unlink()


def test_whoever_claims_to_be_the_primary_and_is_not_is_killed(project: Project) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        before = pid(project, "store-1")
        answers(project, 1, "lie")
        until(lambda: "state.impostor" in project.ok("events", "store").out, "it is found out")
        until(lambda: gone(before), "it is killed")
        answers(project, 1, "")
        until(lambda: settled(project), "everything is whole again")
        writer.more()
    assert primary(project) == "store-0" and store(project)["primary"]["term"] == 1
    assert not lost(project, writer)


def test_nothing_is_done_about_role_commands_that_talk_rubbish(project: Project) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        for number, how in ((1, "hang"), (2, "megabytes")):
            answers(project, number, how)
        until(lambda: list(roles(project).values()).count(None) == 2, "two roles are unknown")
        answers(project, 0, "rubbish")
        until(lambda: set(roles(project).values()) == {None}, "all roles are unknown")
        writer.more(200)
        is_told(project, "STORE_URL", "ROLE primary")
        for number in range(3):
            answers(project, number, "")
        until(lambda: settled(project), "everything is whole again")
    assert primary(project) == "store-0" and store(project)["primary"]["term"] == 1
    assert not lost(project, writer)


def test_a_primary_whose_volume_was_deleted_is_replaced_and_comes_back_empty(
    project: Project,
) -> None:
    stateful(project)
    project.ok("up")
    with Writer(address(project, "STORE_URL")) as writer:
        writer.more()
        shutil.rmtree(volume(project, 0))
        kill(pid(project, "store-0"))
        writer.more()
        until(lambda: settled(project), "everything is whole again")
        writer.more()
    assert primary(project) != "store-0" and roles(project)["store-0"] == "replica"
    assert (volume(project, 0) / "log").is_file()
    assert not lost(project, writer)
