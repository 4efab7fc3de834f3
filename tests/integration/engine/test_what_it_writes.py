"""Logs: bounded, readable whatever is in them, without secrets."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from integration.engine.lab import Lab, reaches, until

from volery.engines.local import LocalEngine, archive
from volery.engines.local.instance import WITHHELD
from volery.model.application import Health, Probe
from volery.model.ports import InstanceSpec
from volery.supervise import logs

SECRET = "s3cr3t-value-of-the-owl"
KEY = "first line of a key\nsecond line of a key"


def test_bytes_that_are_no_text_are_shown(lab: Lab) -> None:
    code = (
        "import os; os.write(1, b'caf\\xe9 \\xff\\x00|\\x1b[31mred\\x1b[0m|\\x1b]0;x\\x07\\r\\n')"
    )

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code))
        await reaches(engine, "web-1", "exited")
        bad = "\ufffd"
        assert engine.tail("web-1") == [f"caf{bad} {bad}{bad}|red|{bad}]0;x{bad}"]

    lab.run(scenario)


def test_a_flood_is_bounded_on_disk_and_its_end_can_be_read(lab: Lab) -> None:
    limit = 256 * 1024
    code = """
import os, time
line = b"x" * 99 + b"\\n"
written = 0
while not os.path.exists("enough"):
    os.write(1, line * 1000)
    written += 1000
while os.fstat(1).st_size > 262144:  # the last cut is over: what is written now stays
    time.sleep(0.01)
os.write(1, b"the end\\n")
open("written.new", "w").write(str(written * 100))
os.rename("written.new", "written")
time.sleep(1000)
"""

    def size() -> int:
        folder = lab.home / "instances" / "web-1"
        return sum(file.stat().st_size for file in folder.iterdir() if file.exists())

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", code))
        index = lab.home / "instances" / "web-1" / "log.index"
        await until(lambda: index.exists() and int(index.read_text().split()[1]) > 50 * limit)
        (lab.work / "enough").touch()
        await until((lab.work / "written").exists)
        written = int((lab.work / "written").read_text())
        await until(lambda: (lab.home / "instances" / "web-1" / "log").stat().st_size <= limit)
        assert written > 50 * limit > 10 * size()
        assert engine.tail("web-1", 2)[-1] == "the end"
        kept = [line.text for line in logs.read(lab.home / "instances" / "web-1")]
        assert len(kept) > 100 and kept[-1] == "the end"
        torn = sum(line != "x" * 99 for line in kept[:-1])
        assert torn <= 1, "only where it was cut, what came meanwhile is lost"

    lab.run(scenario, log_bytes=limit)


def secretive(lab: Lab, identity: str, code: str) -> InstanceSpec:
    environment = {
        "PATH": os.environ["PATH"],
        "OWL_TOKEN": SECRET,
        "OWL_KEY": KEY,
        "PLAIN": "visible",
    }
    return lab.spec(identity, code, environment=environment, secrets=frozenset({SECRET, KEY}))


TELLTALE = """
import os, time
print("token", os.environ["OWL_TOKEN"], os.environ["PLAIN"])
print("key", os.environ["OWL_KEY"], flush=True)
"""


def test_secrets_are_masked_and_nowhere_on_disk_or_in_argv(lab: Lab) -> None:
    async def scenario(engine: LocalEngine) -> None:
        engine.start(secretive(lab, "web-1", "import time; time.sleep(1000)"))
        await until(lambda: engine.observe()["web-1"].pid)
        engine.start(secretive(lab, "web-2", "import sys; sys.exit(1)"))
        await reaches(engine, "web-2", "exited")
        assert not leaks(lab.home), "a secret is on disk"
        assert not in_argv(), "a secret is in an argument list"
        engine.settle("web-1")
        engine.stop("web-1")
        await reaches(engine, "web-1", "exited")
        assert not leaks(lab.home)

    lab.run(scenario)


def leaks(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    words = [SECRET.encode(), *(line.encode() for line in KEY.splitlines())]
    return [path for path in found if any(word in path.read_bytes() for word in words)]


def in_argv() -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if SECRET.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


def test_secrets_are_masked_in_the_tail_also_after_a_restart_of_the_engine(lab: Lab) -> None:
    masked = ["token *** visible", "key ***", "***"]

    async def first(engine: LocalEngine) -> None:
        engine.start(secretive(lab, "web-1", TELLTALE + "time.sleep(1000)"))
        engine.start(secretive(lab, "web-2", TELLTALE))
        await until(lambda: len(engine.tail("web-1")) == 3)
        await reaches(engine, "web-2", "exited")
        assert engine.tail("web-1") == masked
        engine.forget("web-2")
        assert engine.tail("web-2") == masked
        engine.start(secretive(lab, "web-3", TELLTALE))
        await reaches(engine, "web-3", "exited")

    async def second(engine: LocalEngine) -> None:
        await until(lambda: engine.observe()["web-1"].pid)
        assert [engine.tail(f"web-{number}") for number in (1, 2, 3)] == [masked] * 3

    lab.run(first, hidden=lambda: frozenset({SECRET, KEY}))
    lab.run(second, hidden=lambda: frozenset({SECRET, KEY}))


def test_what_may_hold_a_secret_of_others_is_not_shown_while_those_cannot_be_known(
    lab: Lab,
) -> None:
    telling = f"print('told {SECRET}', flush=True); import time; time.sleep(1000)"
    health = Health(ready=Probe(command=("sh", "-c", f"echo {SECRET}; exit 1")), every=0.05)
    hidden: list[frozenset[str] | None] = [None]

    async def scenario(engine: LocalEngine) -> None:
        engine.start(lab.spec("web-1", telling, health=health))
        for known, detail, tail in (
            (None, "sh exited 1", WITHHELD),
            (frozenset({"of somebody"}), f"sh exited 1: {SECRET}", f"told {SECRET}"),
            (frozenset({SECRET}), "sh exited 1: ***", "told ***"),
        ):
            hidden[0] = known
            await until(lambda: engine.observe()["web-1"].detail == detail)  # noqa: B023
            await until(lambda: engine.tail("web-1") == [tail])  # noqa: B023

    lab.run(scenario, hidden=lambda: hidden[0])


def test_a_secret_that_nobody_else_knows_any_more_stays_masked(lab: Lab) -> None:
    """It is still that of the process."""

    async def first(engine: LocalEngine) -> None:
        engine.start(secretive(lab, "web-1", TELLTALE + "time.sleep(1000)"))
        await until(lambda: len(engine.tail("web-1")) == 3)

    async def second(engine: LocalEngine) -> None:
        await until(lambda: engine.observe()["web-1"].pid)
        assert engine.tail("web-1") == ["token *** ***", "key ***", "***"]

    lab.run(first)
    lab.run(second, hidden=lambda: frozenset({"visible"}))


def test_a_probe_that_tells_a_secret_is_masked(lab: Lab) -> None:
    health = Health(ready=Probe(command=("sh", "-c", "echo $OWL_TOKEN; exit 1")), every=0.05)

    async def scenario(engine: LocalEngine) -> None:
        spec = secretive(lab, "web-1", "import time; time.sleep(1000)")
        engine.start(replace(spec, health=health))
        await until(lambda: "exited 1" in engine.observe()["web-1"].detail)
        assert engine.observe()["web-1"].detail == "sh exited 1: ***"

    lab.run(scenario)


def test_forgotten_logs_are_bounded_in_number(lab: Lab) -> None:
    service = lab.home / "logs" / "web"
    for number in range(30):
        folder = service / f"web-{number}-{1000 + number}"
        folder.mkdir(parents=True)
        (folder / "log").write_text(f"{number}\n")
    archive.prune(lab.home, "web")
    left = sorted(int(re.split("-", path.name)[1]) for path in service.iterdir())
    assert left == list(range(30 - archive.KEPT_FOLDERS, 30))
    newest = service / "web-29-1029"
    with (newest / "log").open("wb") as file:
        file.truncate(archive.KEPT_BYTES + 1)
    archive.prune(lab.home, "web")
    assert list(service.iterdir()) == [newest]


def test_old_logs_are_deleted_once_by_whoever_comes_first(tmp_path: Path) -> None:
    for number in range(60):
        folder = tmp_path / "logs" / "web" / f"web-1-{number}"
        folder.mkdir(parents=True)
        (folder / "log").write_bytes(b"x" * 1000)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: archive.prune(tmp_path, "web"), range(8)))
    assert len(archive.kept(tmp_path, "web")) == archive.KEPT_FOLDERS
