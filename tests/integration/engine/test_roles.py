"""Roles, commands beside an instance, and the fence, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from integration.engine.lab import Lab, reaches, until

from volery.engines.local import LocalEngine
from volery.engines.probes import Target
from volery.engines.roles import RoleAsker, parsed
from volery.model.application import Health
from volery.model.ports import Answer, Observation, RoleWatch, SideCommand

SAYS = ("sh", "-c", "sh ./role")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (b"primary 12\n", ("primary", 12)),
        (b"replica\nand more", ("replica", None)),
        (b"syncing  7 \r\n", ("syncing", 7)),
        (b"", None),
        (b"\nprimary 3", None),
        (b"PRIMARY 3", None),
        (b"primary -3", None),
        (b"primary 1e9", None),
        (b"primary 12 x", None),
        (b"primary " + b"9" * 40, None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_only_the_first_line_counts_and_only_if_it_is_known(said: bytes, means: object) -> None:
    assert parsed(said) == means


def says(lab: Lab, script: str) -> None:
    (lab.work / "role.new").write_text(script)
    (lab.work / "role.new").rename(lab.work / "role")


def test_a_role_is_known_while_it_is_answered(lab: Lab) -> None:
    health = Health(every=0.05, timeout=1.0)

    async def scenario(engine: LocalEngine) -> None:
        def seen() -> Observation:
            return engine.observe()["web-0"]

        engine.watch_roles({"web": RoleWatch(3, often=True)})
        says(lab, "echo replica $VOLERY_TERM")
        engine.start(lab.spec("web-0", role=SAYS, health=health))
        await until(lambda: seen().role == "replica" and seen().unsure_since is None)
        assert seen().position == 3
        engine.watch_roles({"web": RoleWatch(4, often=True)})
        await until(lambda: seen().position == 4)
        for rubbish in ("echo nonsense", "exit 3", "sleep 1000", "yes primary", "echo x; kill $$"):
            says(lab, rubbish)
            await until(lambda: seen().unsure_since is not None)
            assert seen().role == "replica", "its last word"
            says(lab, "echo primary 5")
            await until(lambda: seen().unsure_since is None)
            says(lab, "echo replica 5")
            await until(lambda: seen().role == "replica")
        pid = seen().pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: seen().role is None and seen().unsure_since is not None)

    lab.run(scenario)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_question_that_we_stood_still_for_is_put_once_more(
    comes_back: bool, tmp_path: Path
) -> None:
    """A frozen machine freezes who is asked, too: that is no question which went unanswered."""
    again = "echo primary 2" if comes_back else "sleep 1000"
    script = f"mkdir a 2>&- && exec echo primary 1; mkdir b 2>&- && sleep 1000; {again}"
    target = Target("127.0.0.1", 1, "tcp", str(tmp_path), {"PATH": os.environ["PATH"]})
    heard: list[float | None] = []
    words = ("sh", "-c", script)
    asker = RoleAsker(words, target, 0.3, lambda: heard.append(asker.said.unsure_since))

    async def scenario() -> None:
        asker.watch(RoleWatch(1, often=True))
        asking = asyncio.create_task(asker.run())
        await until((tmp_path / "b").exists)
        assert asker.said.role == "primary"
        heard.clear()
        time.sleep(1.0)
        moved = time.monotonic()
        await until(lambda: heard)
        asking.cancel()
        (unsure,) = {*heard}
        assert unsure is None if comes_back else unsure is not None and unsure >= moved

    asyncio.run(scenario())


def test_one_question_in_vain_leaves_no_role_unknown_after_a_restart(lab: Lab) -> None:
    spec = lab.spec("web-0", role=SAYS, health=Health(every=0.05, timeout=1.0))

    async def begin(engine: LocalEngine) -> None:
        says(lab, "echo primary 5")
        engine.start(spec)
        await until(lambda: engine.observe()["web-0"].role == "primary")

    async def later(engine: LocalEngine) -> None:
        assert engine.observe()["web-0"].role == "primary"

    lab.run(begin)
    says(lab, "mkdir asked && exit 3; echo primary 5")
    lab.run(later)


def test_a_command_beside_an_instance_runs_once_for_each_key(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        def answer(key: str) -> Answer:
            return engine.observe()["web-0"].commands.get(key, Answer("waiting"))

        def command(script: str, seconds: float = 10.0) -> SideCommand:
            return SideCommand(("sh", "-c", script), {"VOLERY_TERM": "7"}, seconds)

        engine.start(lab.spec("web-0"))
        await reaches(engine, "web-0", "ready")
        for _ in range(3):
            engine.command("web-0", "a", command("echo $VOLERY_TERM $VOLERY_INSTANCE | tee -a ran"))
        engine.command("web-0", "b", command("echo too bad; exit 4"))
        engine.command("web-0", "c", command("sleep 1000", 0.2))
        engine.command("web-0", "d", SideCommand(("no-such-command",), {}, 1.0))
        await until(lambda: all(answer(key).state != "waiting" for key in "abcd"))
        assert (answer("a").state, answer("a").text) == ("yes", "7 web-0")
        assert answer("b").state == "no" and "too bad" in answer("b").text
        assert answer("c").state == "broken" and "200ms" in answer("c").text
        assert answer("d").state == "broken"
        assert (lab.work / "ran").read_text().count("\n") == 1

    lab.run(scenario)


def test_what_hangs_and_what_is_being_stopped_is_killed_at_once(lab: Lab) -> None:
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(os.environ['VOLERY_INSTANCE'], 'w').close(); time.sleep(1000)"
    )

    async def scenario(engine: LocalEngine) -> None:
        for identity in ("web-0", "web-1"):
            engine.start(lab.spec(identity, deaf))
            await until((lab.work / identity).exists)
            engine.settle(identity)
        await until(lambda: all(seen.pid for seen in engine.observe().values()))
        pid = engine.observe()["web-0"].pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        engine.stop("web-1")
        await reaches(engine, "web-1", "stopping")
        for identity in ("web-0", "web-1"):
            engine.kill(identity)
        for identity in ("web-0", "web-1"):
            seen = await reaches(engine, identity, "exited")
            assert seen.exit is not None and seen.exit.signal == "SIGKILL" and not seen.restarts

    lab.run(scenario)
