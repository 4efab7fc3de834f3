"""Commands of gates: what they see, what is taken from them, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
from integration.outside.asking import ENVIRONMENT, Asker, answer_to, gate, with_asker

from volery.model.errors import VoleryError
from volery.outside.world import WITHHELD


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_it_sees_what_it_is_about_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_CALLER", "leaked")
    call = gate(
        tmp_path, ENVIRONMENT | {"TOKEN": "x", "VOLERY_STEP": "0"}, command=shell("env > seen")
    )
    assert answer_to(call).state == "yes"
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    for name in ("PWD", "SHLVL", "_", "OLDPWD"):
        seen.pop(name, None)
    assert seen == {
        "PATH": f"{ENVIRONMENT['PATH']}:{Path(sys.executable).parent}",
        "TOKEN": "x",
        "VOLERY_APP": "shop",
        "VOLERY_ENVIRONMENT": "dev",
        "VOLERY_SERVICE": "web",
        "VOLERY_RELEASE": "web@2",
        "VOLERY_ROLLOUT": "web-7",
        "VOLERY_WHEN": "before_step",
        "VOLERY_STEP": "2",
        "VOLERY_WEIGHT": "5",
        "VOLERY_TRACK": "canary",
    }


def test_variables_in_its_words_are_filled_in(tmp_path: Path) -> None:
    answer = answer_to(gate(tmp_path, command="echo $VOLERY_RELEASE ${VOLERY_STEP} $NOTHING."))
    assert (answer.state, answer.text) == ("yes", "web@2 2 .")


@pytest.mark.parametrize(
    ("script", "state", "says"),
    [
        ("exit 0", "yes", "exit code 0 after"),
        ("echo fine; echo really >&2; echo", "yes", "really"),
        ("echo too hot >&2; exit 3", "no", ": too hot"),
        ("exit 3", "no", "exit code 3 after"),
        ("echo dying; kill -TERM $$", "broken", "killed by SIGTERM after"),
        ("kill -40 $$", "broken", "killed by SIG"),
        ("printf '\\033[31mred\\033[0m\\007\\377\\n'; exit 1", "no", ": red\ufffd\ufffd"),
        ("head -c 3000000 /dev/zero | tr '\\0' 'x'; echo; echo end; exit 1", "no", ": end"),
        ("head -c 3000000 /dev/zero | tr '\\0' 'x'; exit 1", "no", "exit code 1 after"),
    ],
)
def test_how_it_ends(tmp_path: Path, script: str, state: str, says: str) -> None:
    answer = answer_to(gate(tmp_path, command=shell(script)))
    assert answer.state == state
    assert says in answer.text
    assert "xxx" not in answer.text


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-program-here"], "command not found: no-such-program-here"),
        (["./missing"], "command not found: ./missing"),
        (["./notes.txt"], "not executable: ./notes.txt"),
        (["sh", "x" * 300_000], "cannot run sh: Argument list too long"),
    ],
)
def test_what_cannot_be_run_is_broken(tmp_path: Path, command: list[str], says: str) -> None:
    (tmp_path / "notes.txt").write_text("no program")
    answer = answer_to(gate(tmp_path, command=command))
    assert (answer.state, answer.text) == ("broken", says)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    answer = answer_to(gate(tmp_path / "gone", command="true"))
    assert (answer.state, answer.text) == ("broken", "cannot run true: No such file or directory")


def test_a_secret_that_it_prints_is_masked(tmp_path: Path) -> None:
    secret = "s3cret-" + "z" * 400
    call = gate(tmp_path, ENVIRONMENT | {"KEY": secret}, command=shell("echo $KEY is bad; exit 1"))
    answer = answer_to(call, hidden=lambda: [secret])
    assert answer.text.endswith(": *** is bad")


def test_what_it_prints_is_not_shown_where_the_secrets_cannot_be_read(tmp_path: Path) -> None:
    def unreadable() -> list[str]:
        raise VoleryError("others may read the key of the secrets")

    for script, state in (("echo fine", "yes"), ("echo hunter2; exit 1", "no")):
        answer = answer_to(gate(tmp_path, command=shell(script)), hidden=unreadable)
        assert (answer.state, answer.text) == (state, WITHHELD)


FAMILY = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    os.close(1), os.close(2)
    subprocess.Popen(["sleep", "600"])
    open("up", "w").close()
    time.sleep(600)
print("started", flush=True)
time.sleep(float(sys.argv[1]))
"""


def of(folder: Path) -> list[psutil.Process]:
    """Every living process that works in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def family(tmp_path: Path, seconds: float, timeout: str) -> list[str]:
    (tmp_path / "family.py").write_text(FAMILY)
    return [sys.executable, "family.py", str(seconds)]


def test_one_that_is_late_is_killed_with_its_whole_family(tmp_path: Path) -> None:
    command = family(tmp_path, 600, "2s")
    answer = answer_to(gate(tmp_path, command=command, timeout="10s"))
    assert answer.state == "broken"
    assert answer.text.startswith("timed out after ")
    assert answer.text.endswith(": started")
    assert of(tmp_path) == []


def test_nothing_is_left_of_one_that_ended(tmp_path: Path) -> None:
    command = shell("setsid sleep 600 & sleep 600 & echo done")
    assert answer_to(gate(tmp_path, command=command)).text == "done"
    assert of(tmp_path) == []


def test_nothing_is_left_of_one_that_is_no_longer_wished(tmp_path: Path) -> None:
    async def play(ask: Asker) -> None:
        ask.wish(g=gate(tmp_path, command=family(tmp_path, 600, "1h"), timeout="1h"))
        async with asyncio.timeout(30):
            while not (tmp_path / "up").exists():
                await asyncio.sleep(0.01)
        assert of(tmp_path)
        ask.wish()
        async with asyncio.timeout(30):
            while of(tmp_path):
                await asyncio.sleep(0.05)
        assert not ask.woken.is_set()

    with_asker(play)


STUBBORN = """
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, lambda *_: open("asked-to-end", "w").close())
subprocess.Popen(["sleep", "600"], start_new_session=True)
open("up", "w").close()
while True:
    time.sleep(600)
"""


def test_nothing_is_left_of_a_stubborn_one_whose_end_nobody_waits_for(tmp_path: Path) -> None:
    """It is late, is being ended, and is cancelled in the midst of that."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)

    async def play(ask: Asker) -> None:
        ask.wish(g=gate(tmp_path, command=[sys.executable, "stubborn.py"], timeout="10s"))
        async with asyncio.timeout(60):
            while not (tmp_path / "asked-to-end").exists():
                await asyncio.sleep(0.01)
            ask.wish()
            while of(tmp_path):
                await asyncio.sleep(0.05)

    with_asker(play)


def test_it_does_not_outlive_us(tmp_path: Path) -> None:
    """Killed without warning, a control plane takes its gates along."""
    (tmp_path / "family.py").write_text(FAMILY)
    script = f"""
import asyncio
from pathlib import Path
from integration.outside.asking import gate, with_asker
async def play(ask):
    command = [{sys.executable!r}, "family.py", "600"]
    ask.wish(g=gate(Path({str(tmp_path)!r}), command=command, timeout="1h"))
    await asyncio.sleep(600)
with_asker(play)
"""

    async def play() -> None:
        tests = str(Path(__file__).parents[2])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, env=os.environ | {"PYTHONPATH": tests}
        )
        async with asyncio.timeout(60):
            while not (tmp_path / "up").exists():
                await asyncio.sleep(0.05)
            process.kill()
            await process.wait()
            while of(tmp_path):
                await asyncio.sleep(0.05)

    asyncio.run(play())
