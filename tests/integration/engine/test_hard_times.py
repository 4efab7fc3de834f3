"""Full disks, and users without rights."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from integration.engine.lab import Lab, fetch, reaches, until
from integration.tiny_disk import tiny_disk

import volery
from volery.engines.local import LocalEngine, volumes
from volery.model.errors import VoleryError


def test_a_full_disk_ends_no_supervision(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "tiny") as disk:
        lab = Lab(disk.folder / "home", tmp_path / "work")
        lab.work.mkdir()

        async def scenario(engine: LocalEngine) -> None:
            engine.start(lab.spec("web-1", health=lab.http()))
            engine.start(lab.spec("web-2", health=lab.http()))
            for name in ("web-1", "web-2"):
                await reaches(engine, name, "ready")
            engine.settle("web-1")
            await until(lambda: lab.restarts("web-1"))
            disk.fill()
            seen = engine.observe()
            await fetch(seen["web-1"].address or "", "/crash")
            await fetch(seen["web-2"].address or "", "/crash")
            await until(lambda: engine.observe()["web-1"].restarts == 1)
            again = await reaches(engine, "web-1", "ready")
            assert again.exit is not None and again.exit.code == 3
            ended = await reaches(engine, "web-2", "exited")
            assert ended.exit is not None and ended.exit.code == 3
            await until(lambda: not lab.supervised("web-2").looked_after())
            disk.fill()  # what its log had reserved was given back
            engine.start(lab.spec("web-3"))
            refused = await reaches(engine, "web-3", "exited")
            assert "No space left on device" in refused.detail
            engine.stop("web-1")
            await reaches(engine, "web-1", "exited")
            disk.free()
            for name in ("web-1", "web-2", "web-3"):
                engine.forget(name)
            engine.start(lab.spec("web-3"))
            await reaches(engine, "web-3", "ready")

        try:
            lab.run(scenario)
        finally:
            lab.end()


def test_a_log_on_a_full_disk_stays_bounded(tmp_path: Path) -> None:
    code = """
import os, time
while True:
    try:
        os.write(1, b"x" * 1000 + b"\\n")
    except OSError:
        time.sleep(0.01)
"""
    with tiny_disk(tmp_path / "tiny") as disk:
        lab = Lab(disk.folder / "home", tmp_path / "work")
        lab.work.mkdir()

        async def scenario(engine: LocalEngine) -> None:
            index = lab.home / "instances" / "web-1" / "log.index"
            engine.start(lab.spec("web-1", code))
            await until(lambda: index.exists() and int(index.read_text().split()[1]) > 5_000_000)
            engine.stop("web-1")
            ended = await reaches(engine, "web-1", "exited")
            assert ended.exit is not None and ended.exit.signal == "SIGTERM"

        try:
            lab.run(scenario, log_bytes=600_000)
        finally:
            lab.end()


def test_a_volume_whose_file_system_does_not_answer_holds_nobody_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, refusal = threading.Event(), volumes._refusal

    def slow(path: Path) -> str:
        answers.wait(60)
        return refusal(path)

    async def scenario(engine: LocalEngine) -> None:
        spec = lab.spec("web-1", volume=str(lab.work / "data-0"))
        for _ in range(2):
            with pytest.raises(VoleryError, match="its file system does not answer"):
                engine.start(spec)
        assert engine.observe() == {}
        answers.set()
        while not engine.observe():
            with suppress(VoleryError):
                engine.start(spec)
            await asyncio.sleep(0.01)
        await reaches(engine, "web-1", "ready")

    monkeypatch.setattr(volumes, "_refusal", slow)
    lab.run(scenario)


def test_a_volume_that_hangs_keeps_no_other_from_being_looked_at(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, hangs, refusal = threading.Event(), threading.Event(), volumes._refusal
    first, second = lab.work / "data-0", lab.work / "data-1"

    def slow(path: Path) -> str:
        if path == first and lab.work.joinpath("hang").exists():
            hangs.set()
            answers.wait(60)
            return "is read-only"
        return refusal(path)

    async def scenario(engine: LocalEngine) -> None:
        try:
            for number, volume in enumerate((first, second), 1):
                engine.start(lab.spec(f"web-{number}", volume=str(volume)))
                await reaches(engine, f"web-{number}", "ready")
            (lab.work / "hang").touch()
            await until(hangs.is_set)
            second.rmdir()
            await until(lambda: engine.observe()["web-2"].volume == "is gone")
            assert engine.observe()["web-1"].volume == ""
            answers.set()
            await until(lambda: engine.observe()["web-1"].volume == "is read-only")
        finally:
            answers.set()

    monkeypatch.setattr(volumes, "_refusal", slow)
    lab.run(scenario)


PROGRAM = """
import asyncio, os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(":")
from integration.engine.lab import DAEMONS, Lab, daemons, reaches, running, until
from volery.model.application import Resources
from volery.model.errors import VoleryError
from volery.supervise import enforceable

lab = Lab(Path(sys.argv[2]) / "home", Path(sys.argv[2]))

async def scenario(engine):
    print(os.getuid(), enforceable())
    limits = Resources(memory=64 << 20, cpu=0.5, pids=50, files=100)
    engine.start(lab.spec("web-1", resources=limits))
    seen = await reaches(engine, "web-1", "ready")
    print(seen.enforced)
    engine.start(lab.spec("web-2", DAEMONS + "time.sleep(1000)"))
    await until(lambda: (lab.work / "deaf").exists() and (lab.work / "polite").exists())
    hungry = "print(1, flush=True); x = bytearray(200 << 20); import time; time.sleep(1000)"
    engine.start(lab.spec("web-3", hungry, resources=limits))
    ended = await reaches(engine, "web-3", "exited")
    assert ended.exit.out_of_memory, ended
    from dataclasses import replace
    for name in ("web-1", "web-2"):
        engine._instances[name].about = replace(engine._instances[name].about, grace=0.5)
        engine.stop(name)
        await reaches(engine, name, "exited")
    assert not any(running(pid) for pid in daemons(lab))
    try:
        engine.start(lab.spec("web-4", volume=sys.argv[3]))
    except VoleryError as error:
        print(error.message)
    assert "web-4" not in engine.observe()
    print("done")

try:
    lab.run(scenario)
finally:
    lab.end()
"""


NEEDED = ("pydantic", "annotated_types", "typing_", "h2", "hpack", "hyperframe")


def test_a_user_without_rights_gets_what_can_be_had() -> None:
    """As `nobody`, with the packages where `nobody` may read them."""
    setpriv = shutil.which("setpriv")
    system_python = Path("/usr/bin/python3")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root and setpriv to become another user")
    python = next((p for p in (Path(sys.executable), system_python) if runs(setpriv, p)), None)
    if python is None:
        pytest.skip("nobody may run a Python of this version here")
    with tempfile.TemporaryDirectory(prefix="volery-nobody-") as name:
        folder = Path(name)
        site = Path(sysconfig.get_path("purelib"))
        code = folder / "code"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(volery.__file__).parent, code / "volery", ignore=ignore)
        (code / "integration").mkdir()
        shutil.copytree(Path(__file__).parent, code / "integration" / "engine", ignore=ignore)
        for path in site.iterdir():
            if path.name.startswith(NEEDED):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, code / path.name)
        work = folder / "work"
        work.mkdir()
        for path in (folder, code, work):
            os.chown(path, 65534, 65534)
        (folder / "of-root").mkdir(mode=0o700)
        volume = str(folder / "of-root" / "data-0")
        command = [*nobody(setpriv), str(python), "-c", PROGRAM, str(code), str(work), volume]
        done = subprocess.run(
            command,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr
    assert done.stdout.startswith("65534 ")
    assert f"its volume {volume} cannot be looked at: Permission denied" in done.stdout
    assert "'memory': 'watched'" in done.stdout and "'cpu': 'not enforced'" in done.stdout


def nobody(setpriv: str) -> list[str]:
    rights = ("--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")
    # The shell makes sure: setpriv itself can still execute what nobody cannot.
    return [setpriv, *rights, "sh", "-c", 'exec "$0" "$@"']


def runs(setpriv: str, python: Path) -> bool:
    wanted = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    command = [*nobody(setpriv), str(python), "-S", "-c", wanted]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
