"""Real builds and tests of real folders: once each, bounded, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from integration.tiny_disk import TinyDisk, tiny_disk

from volery.build.builder import LocalBuilder
from volery.build.source import Source
from volery.model.application import Service
from volery.model.errors import VoleryError
from volery.model.ports import BuildStatus
from volery.model.state import Release

PATIENCE_SECONDS = 60.0
COUNT = """python -c "open('{}', 'a').write('x')" """


def service(**fields: Any) -> Service:
    return Service.model_validate({"run": "python app.py", "source": "."} | fields)


class Bench:
    """A builder and a source folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.root = folder / "app"
        self.root.mkdir(exist_ok=True)
        (self.root / "app.py").write_text("print('hello')\n")
        self.home = folder / "home" / "birdhouse" / "dev"
        self.woken = asyncio.Event()
        self.base_env = dict(os.environ) | {"SECRET_OF_CALLER": "leaked"}
        self.builder = LocalBuilder(
            self.home, self.woken.set, base_env=lambda _: self.base_env, **options
        )

    async def release(self, name: str = "web@1", **fields: Any) -> Release:
        spec = service(**fields)
        artifact = await self.builder.prepare("web", spec, self.root)
        return Release(name, "web", artifact.digest, spec, 0.0)

    async def until(self, good: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not good():
                await asyncio.sleep(0.01)

    async def status(self, release: Release, *phases: str) -> BuildStatus:
        """Wait, on wake-ups only, until the release is in one of these phases."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self.woken.clear()
                status = self.builder.observe()[release.id]
                if status.phase in (phases or ("built", "failed")):
                    return status
                await self.woken.wait()

    async def build(self, release: Release, skip_tests: bool = False) -> BuildStatus:
        self.builder.request(release, skip_tests)
        return await self.status(release)

    def src(self, release: Release) -> Path:
        return self.home / "artifacts" / "web" / release.artifact / "src"


@asynccontextmanager
async def bench(folder: Path, **options: Any) -> AsyncIterator[Bench]:
    made = Bench(folder, **options)
    await made.builder.open()
    try:
        yield made
    finally:
        await made.builder.close()


def with_bench(tmp_path: Path, play: Callable[[Bench], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with bench(tmp_path, **options) as made:
            await play(made)

    asyncio.run(run())


def stamps(tree: Path) -> dict[str, tuple[int, int, int]]:
    """What differs once anything in it is changed."""
    found = {str(path): path.lstat() for path in (tree, *tree.rglob("*"))}
    return {name: (at.st_mode, at.st_size, at.st_mtime_ns) for name, at in found.items()}


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# --- success --------------------------------------------------------------------------------------


def test_builds_then_tests_in_the_copy(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        release = await bench.release(
            build=["sh -c 'pwd > built'", "mkdir out"], test="test -d out", env={"A": "b"}
        )
        status = await bench.build(release)
        assert status.phase == "built"
        assert status.build_seconds > 0
        assert status.test_seconds > 0
        src = bench.src(release)
        assert (src / "built").read_text().strip() == str(src)
        assert not (bench.root / "built").exists()
        assert not (src.parent / "source").exists()
        assert "$ mkdir out" in bench.builder.build_log("web", release.artifact).read_text()

    with_bench(tmp_path, play)


def test_phases_are_seen_in_order(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        gate = tmp_path / "gate"
        wait = f"sh -c 'while ! test -e {gate}; do sleep 0.02; done'"
        release = await bench.release(build="true", test=wait)
        bench.builder.request(release, False)
        assert bench.builder.observe()[release.id].phase == "building"
        await bench.status(release, "testing")
        gate.touch()
        assert (await bench.status(release)).phase == "built"

    with_bench(tmp_path, play)


def test_environment_is_what_the_contract_says(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        bench.base_env = {"PATH": "/usr/bin:/bin", "HOME": "/h", "TZ": "UTC", "OTHER": "leaked"}
        show = "python -c \"import json,os; open('{}','w').write(json.dumps(dict(os.environ)))\""
        build, test = (show.format(tmp_path / f"{name}.env") for name in ("build", "test"))
        release = await bench.release(build=build, test=test, env={"MODE": "x"})
        assert (await bench.build(release)).phase == "built"
        expected = {
            "PATH": f"/usr/bin:/bin:{Path(sys.executable).parent}",
            "HOME": "/h",
            "TZ": "UTC",
            "VOLERY_APP": "birdhouse",
            "VOLERY_ENVIRONMENT": "dev",
            "VOLERY_SERVICE": "web",
            "VOLERY_RELEASE": "web@1",
        }
        found = {
            name: json.loads((tmp_path / f"{name}.env").read_text()) for name in ("build", "test")
        }
        for environment in found.values():
            environment.pop("LC_CTYPE", None)  # Python sets it for itself in the C locale
        assert found == {"build": expected, "test": expected | {"MODE": "x"}}

    with_bench(tmp_path, play)


def test_variables_are_expanded_without_a_shell(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        release = await bench.release(build=["touch $VOLERY_SERVICE.txt", "touch 'a;b'"])
        assert (await bench.build(release)).phase == "built"
        names = {path.name for path in bench.src(release).iterdir()}
        assert names == {"app.py", "web.txt", "a;b"}

    with_bench(tmp_path, play)


def test_unchanged_source_is_not_built_again_not_even_by_another_process(tmp_path: Path) -> None:
    count, tests = tmp_path / "count", tmp_path / "tests"
    fields = {"build": COUNT.format(count), "test": COUNT.format(tests)}

    async def play(bench: Bench) -> None:
        release = await bench.release(**fields)
        assert (await bench.build(release)).phase == "built"
        bench.builder.request(release, False)
        again = replace(release, id="web@2")
        bench.builder.request(again, False)
        assert bench.builder.observe()[again.id].phase == "built"  # at once

    with_bench(tmp_path, play)
    with_bench(tmp_path, play)
    assert count.read_text() == tests.read_text() == "x"


def test_changed_source_or_commands_make_another_artifact(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        first = await bench.release(build="true")
        assert await bench.builder.digest("web", first.spec, bench.root) == first.artifact
        other_commands = await bench.release(build=["true", "true"])
        (bench.root / "app.py").write_text("changed")
        digest = await bench.builder.digest("web", first.spec, bench.root)
        assert not (bench.home / "artifacts" / "web" / digest).exists()
        other_source = await bench.release(build="true")
        assert other_source.artifact == digest
        assert len({first.artifact, other_commands.artifact, other_source.artifact}) == 3

    with_bench(tmp_path, play)


def test_other_tests_or_environment_are_run_on_the_same_artifact(tmp_path: Path) -> None:
    count, tests = tmp_path / "count", tmp_path / "tests"

    async def play(bench: Bench) -> None:
        for number, env in enumerate([{}, {}, {"A": "1"}, {"A": "1"}]):
            release = await bench.release(
                f"web@{number}", build=COUNT.format(count), test=COUNT.format(tests), env=env
            )
            assert (await bench.build(release)).phase == "built"

    with_bench(tmp_path, play)
    assert count.read_text() == "x"
    assert tests.read_text() == "xx"


@pytest.mark.parametrize("end", ["true", "false"])
def test_tests_change_nothing_of_what_is_served(tmp_path: Path, end: str) -> None:
    """Instances run in the folder that was built, those of another release of it as well."""
    mode = tmp_path / "mode"

    async def play(bench: Bench) -> None:
        (bench.root / "page.html").write_text("hello")
        live = await bench.release(build=["mkdir out", "touch out/f", "mkfifo out/pipe"])
        assert (await bench.build(live)).phase == "built"
        src = bench.src(live)
        before = stamps(src)
        test = [
            f"sh -c 'stat -c %a {src} {src}/page.html > {mode}; pwd >> {mode}'",
            "sh -c 'rm page.html; echo 2 > app.py; rm -r out; touch report'",
            end,
        ]
        for number in (2, 3):
            tested = await bench.release(f"web@{number}", build=live.spec.build, test=test)
            assert bench.src(tested) == src
            assert (await bench.build(tested)).phase == ("built" if end == "true" else "failed")
        *modes, folder = mode.read_text().split()
        assert modes == ["555", "444"]
        assert not Path(folder).exists()
        assert stamps(src) == before
        assert [path.name for path in (bench.home / "artifacts").iterdir()] == ["web"]

    with_bench(tmp_path, play)


def test_skipped_tests_can_be_made_up_for(tmp_path: Path) -> None:
    tests = tmp_path / "tests"

    async def play(bench: Bench) -> None:
        release = await bench.release(build="true", test=COUNT.format(tests))
        status = await bench.build(release, skip_tests=True)
        assert (status.phase, status.tested) == ("built", False)
        assert not tests.exists()
        bench.builder.request(release, True)
        assert bench.builder.observe()[release.id].phase == "built"
        status = await bench.build(release)
        assert (status.phase, status.tested) == ("built", True)
        assert tests.read_text() == "x"
        bench.builder.cancel(release.id)
        bench.builder.request(release, True)
        assert bench.builder.observe()[release.id].tested

    with_bench(tmp_path, play)


def test_nothing_to_build_and_test_is_done_at_once(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        release = await bench.release()
        bench.builder.request(release, False)
        assert bench.builder.observe()[release.id].phase == "built"
        assert bench.builder.observe()[release.id].tested
        assert (bench.src(release) / "app.py").read_text() == "print('hello')\n"

    with_bench(tmp_path, play)


def test_built_source_is_read_only_but_not_what_it_shares_with_a_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.write_text("shared")
    cache.chmod(0o644)

    async def play(bench: Bench) -> None:
        (bench.root / "run.sh").write_text("#!/bin/sh\n")
        (bench.root / "run.sh").chmod(0o755)
        release = await bench.release(build=["mkdir d", "touch d/f", f"ln {cache} d/cached"])
        assert (await bench.build(release)).phase == "built"
        src = bench.src(release)
        modes = {
            str(path.relative_to(src)): oct(stat.S_IMODE(path.stat().st_mode))
            for path in (src, *src.rglob("*"))
        }
        umask = os.umask(0)
        os.umask(umask)
        assert modes["."] == modes["run.sh"] == "0o555"
        assert modes["app.py"] == "0o444"
        assert not int(modes["d"], 8) & 0o222
        assert not int(modes["d/f"], 8) & 0o222
        assert modes["d/cached"] == "0o644"

    with_bench(tmp_path, play)


# --- failure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("python -c 'import sys; sys.exit(3)'", r"exit code 3 after [\d.]+m?s$"),
        ("true\nsh -c 'exit 3'\ntrue\n", r"^sh -ec .*: exit code 3 after [\d.]+m?s$"),
        ("sh -c 'kill -SEGV $$'", r"^sh -c .*: killed by SIGSEGV after [\d.]+m?s$"),
        ("absent --x", r"^command not found: absent$"),
        ("./absent.sh", r"^command not found: \./absent\.sh$"),
        ("./app.py", r"^not executable: \./app\.py$"),
        ("./noshebang", r"^neither a program nor a script that begins with #!: \./noshebang$"),
        ("./strange", r"interpreter named in the first line of \./strange does not exist$"),
        ("python -c '" + "x" * 500 + "'", r"^.{0,80}: exit code 1"),
    ],
    ids=["exit", "lines", "signal", "absent", "path", "rights", "shebang", "interpreter", "long"],
)
def test_failure_is_told(tmp_path: Path, command: str, reason: str) -> None:
    async def play(bench: Bench) -> None:
        for name, content in (("noshebang", "hello"), ("strange", "#!/no/such/thing\n")):
            (bench.root / name).write_text(content)
            (bench.root / name).chmod(0o755)
        release = await bench.release(build=["true", command, "touch never"])
        status = await bench.build(release)
        assert (status.phase, status.failed_in) == ("failed", "build")
        assert status.build_seconds > 0 and status.test_seconds == 0
        assert re.search(reason, status.reason), status.reason
        assert not bench.src(release).exists()
        assert status.reason in bench.builder.build_log("web", release.artifact).read_text()

    with_bench(tmp_path, play)


def test_failed_test_has_the_last_lines_with_values_masked(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        script = "for n in range(50): print('line', n)\nprint('key hunter2')\nraise SystemExit(1)"
        (bench.root / "t.py").write_text(script)
        release = await bench.release(build="true", test="python t.py hunter2")
        status = await bench.build(release)
        assert (status.phase, status.failed_in) == ("failed", "test")
        assert status.build_seconds > 0 and status.test_seconds > 0
        assert status.reason.startswith("python t.py ***: exit code 1 after ")
        assert status.tail == (*(f"line {n}" for n in range(31, 50)), "key ***")

    with_bench(tmp_path, play, hidden=lambda: ["hunter2"])


def test_where_secrets_cannot_be_read_the_reason_stays_and_the_output_is_not_shown(
    tmp_path: Path,
) -> None:
    def hidden() -> list[str]:
        raise VoleryError("others may read the key of the secrets")

    async def play(bench: Bench) -> None:
        release = await bench.release(test="sh -c 'echo hunter2; exit 3'")
        status = await bench.build(release)
        assert "exit code 3" in status.reason
        assert status.tail == ("(not shown: others may read the key of the secrets)",)

    with_bench(tmp_path, play, hidden=hidden)


def test_failure_stays_until_it_is_cancelled_then_it_is_tried_again(tmp_path: Path) -> None:
    count, allowed = tmp_path / "count", tmp_path / "allowed"

    async def play(bench: Bench) -> None:
        release = await bench.release(build=[COUNT.format(count), f"test -e {allowed}"])
        assert (await bench.build(release)).phase == "failed"
        assert (await bench.build(release)).phase == "failed"
        assert count.read_text() == "x"
        bench.builder.cancel(release.id)
        assert release.id not in bench.builder.observe()
        allowed.touch()
        assert (await bench.build(release)).phase == "built"
        assert count.read_text() == "xx"

    with_bench(tmp_path, play)


def test_failed_build_leaves_nothing_for_the_next_one(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"

    async def play(bench: Bench) -> None:
        command = f"sh -c 'test ! -e dirt && touch dirt && echo x >> app.py && test -e {allowed}'"
        release = await bench.release(build=command)
        assert (await bench.build(release)).phase == "failed"
        bench.builder.cancel(release.id)
        allowed.touch()
        assert (await bench.build(release)).phase == "built"
        assert (bench.src(release) / "app.py").read_text() == "print('hello')\nx\n"

    with_bench(tmp_path, play)


def test_release_without_artifact_is_told(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        release = replace(await bench.release(build="true"), artifact="ab" * 16)
        status = await bench.build(release)
        assert status.phase == "failed"
        assert "deploy it again" in status.reason

    with_bench(tmp_path, play)


def test_source_that_is_none_is_told_before_there_is_a_release(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        with pytest.raises(VoleryError, match="no source folder"):
            await bench.release(source="absent")
        assert list((bench.home / "artifacts").iterdir()) == []

    with_bench(tmp_path, play)


def test_while_sources_are_read_other_work_finds_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a build does: no more sources are read at once than there are slots."""
    go, reading, most = threading.Event(), [0], [0]
    digest = Source.digest

    def slow(source: Source) -> str:
        reading[0] += 1
        most[0] = max(reading[0], most[0])
        go.wait(PATIENCE_SECONDS)
        reading[0] -= 1
        return digest(source)

    async def play(bench: Bench) -> None:
        release = await bench.release(build="true")
        monkeypatch.setattr(Source, "digest", slow)
        sources = [asyncio.create_task(bench.release()) for _ in range(40)]
        try:
            await bench.until(lambda: reading[0] == 2)
            async with asyncio.timeout(PATIENCE_SECONDS / 2):
                assert await asyncio.to_thread(lambda: 1) == 1
                assert (await bench.build(release)).phase == "built"
        finally:
            go.set()
        await asyncio.gather(*sources)
        assert most[0] == 2

    with_bench(tmp_path, play, slots=2)


def test_home_inside_the_source_is_not_copied_into_itself(tmp_path: Path) -> None:
    async def run() -> None:
        root = tmp_path / "app"
        root.mkdir()
        (root / "app.py").touch()
        builder = LocalBuilder(root / "state", lambda: None, base_env=lambda _: {})
        await builder.open()
        first = await builder.prepare("web", service(), root)
        second = await builder.prepare("web", service(), root)
        assert first == second
        assert [path.name for path in first.src.iterdir()] == ["app.py"]
        await builder.close()

    asyncio.run(run())


# --- processes ------------------------------------------------------------------------------------

FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()} '); time.sleep(1000)"
run = lambda **kw: subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], **kw)
run()
run(start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        run(start_new_session=True)
        time.sleep(1000)
    os._exit(0)
open(sys.argv[1], "a").write(f"{os.getpid()} ")
time.sleep(1000)
"""
"""Ignores SIGTERM and has a child, a child in another session, and a daemon with a child."""


async def family(bench: Bench, pids: Path) -> list[int]:
    """Wait until all four run."""
    await bench.until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
    found = [int(word) for word in pids.read_text().split()]
    assert all(alive(pid) for pid in found)
    return found


@pytest.mark.parametrize("stage", ["build", "test"])
@pytest.mark.parametrize("how", ["cancel", "close"])
def test_cancel_and_close_end_the_whole_family(tmp_path: Path, stage: str, how: str) -> None:
    async def play(bench: Bench) -> None:
        pids = tmp_path / "pids"
        (bench.root / "family.py").write_text(FAMILY)
        release = await bench.release(**{stage: f"python family.py {pids}"})
        bench.builder.request(release, False)
        found = await family(bench, pids)
        if how == "cancel":
            bench.builder.cancel(release.id)
            assert bench.builder.observe() == {}
        await bench.builder.close()
        assert not any(alive(pid) for pid in found)

    with_bench(tmp_path, play)


@pytest.mark.parametrize("stage", ["build", "test"])
def test_time_out_ends_the_whole_family(tmp_path: Path, stage: str) -> None:
    async def play(bench: Bench) -> None:
        pids = tmp_path / "pids"
        (bench.root / "family.py").write_text(FAMILY)
        pids.touch()
        limit = {f"{stage}_timeout": "3s"}
        release = await bench.release(**{stage: f"python family.py {pids}"}, **limit)
        status = await bench.build(release)
        assert (status.phase, status.failed_in) == ("failed", stage)
        assert status.reason.startswith("python family.py ")
        assert status.reason.endswith(": timed out after 3s")
        assert not any(alive(int(word)) for word in pids.read_text().split())

    with_bench(tmp_path, play)


def test_what_a_command_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        pids = tmp_path / "pids"
        (bench.root / "daemon.py").write_text(
            "import subprocess, sys\n"
            "d = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "open(sys.argv[1], 'w').write(str(d.pid))\n"
        )
        release = await bench.release(build=f"python daemon.py {pids}")
        assert (await bench.build(release)).phase == "built"
        assert not alive(int(pids.read_text()))

    with_bench(tmp_path, play)


def test_command_killed_from_outside_is_told(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        pids = tmp_path / "pids"
        release = await bench.release(build=f"sh -c 'echo $$ $PPID > {pids}; exec sleep 1000'")
        bench.builder.request(release, False)
        await bench.until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        command, leash = (int(word) for word in pids.read_text().split())
        os.kill(leash, signal.SIGKILL)
        status = await bench.status(release)
        assert "killed from outside" in status.reason
        await bench.until(lambda: not alive(command))

    with_bench(tmp_path, play)


def test_what_a_killed_leash_held_ends_at_once(tmp_path: Path) -> None:
    """It still has the leash's session, and holds the pipe that is read to its end."""

    async def play(bench: Bench) -> None:
        pids = tmp_path / "pids"
        script = (
            f"sleep 1000 & echo $! $PPID > {pids}; set -m; sleep 1000 & echo $! >> {pids}; wait"
        )
        (bench.root / "build.sh").write_text(script)
        release = await bench.release(build="sh build.sh")
        bench.builder.request(release, False)
        await bench.until(lambda: pids.exists() and len(pids.read_text().split()) == 3)
        below, leash, other = (int(word) for word in pids.read_text().split())
        os.kill(leash, signal.SIGKILL)
        status = await bench.status(release)
        assert "killed from outside" in status.reason
        assert not alive(below) and not alive(other)

    with_bench(tmp_path, play)


def test_no_input_no_terminal_and_its_own_session(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        check = (
            "import os, sys; assert sys.stdin.read() == ''; "
            f"assert os.getsid(0) == os.getppid() != {os.getsid(0)}"
        )
        (bench.root / "check.py").write_text(check)
        status = await bench.build(await bench.release(build="python check.py"))
        assert status.phase == "built", status

    with_bench(tmp_path, play)


def test_huge_output_is_bounded(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        release = await bench.release(build=["sh -c 'yes 0123456789 | head -c 40000000'", "false"])
        status = await bench.build(release)
        assert status.tail[-1].startswith("0123456789") or status.tail[-2] == "0123456789"
        log = bench.builder.build_log("web", release.artifact)
        assert 8_000_000 < log.stat().st_size < 9_000_000
        assert b"bytes left out" in log.read_bytes()[-100_000:]

    with_bench(tmp_path, play)


# --- several at once ------------------------------------------------------------------------------


def test_the_same_artifact_is_built_once_however_many_ask(tmp_path: Path) -> None:
    count = tmp_path / "count"

    async def play(bench: Bench) -> None:
        spec = service(build=COUNT.format(count))
        made = await asyncio.gather(
            *(bench.builder.prepare("web", spec, bench.root) for _ in range(4))
        )
        assert len({artifact.path for artifact in made}) == 1
        releases = [Release(f"web@{n}", "web", made[0].digest, spec, 0.0) for n in range(4)]
        for release in releases:
            bench.builder.request(release, False)
            bench.builder.request(release, False)
        for release in releases:
            assert (await bench.status(release)).phase == "built"
        assert count.read_text() == "x"

    with_bench(tmp_path, play, slots=4)


def test_who_waited_for_a_build_that_fails_fails_with_it(tmp_path: Path) -> None:
    count = tmp_path / "count"

    async def play(bench: Bench) -> None:
        release = await bench.release(build=[COUNT.format(count), "false"])
        others = [replace(release, id=f"web@{n}") for n in range(3)]
        for other in others:
            bench.builder.request(other, False)
        for other in others:
            assert (await bench.status(other)).reason.startswith("false: exit code 1")
        assert count.read_text() == "x"

    with_bench(tmp_path, play)


def test_cancelling_one_of_two_leaves_the_other(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        gate, begun = tmp_path / "gate", tmp_path / "begun"
        command = f"sh -c 'touch {begun}; while ! test -e {gate}; do sleep 0.02; done'"
        first = await bench.release(build=command)
        second = replace(first, id="web@2")
        bench.builder.request(first, False)
        bench.builder.request(second, False)
        await bench.until(begun.exists)
        bench.builder.cancel(first.id)
        gate.touch()
        assert (await bench.status(second)).phase == "built"
        assert list(bench.builder.observe()) == [second.id]

    with_bench(tmp_path, play)


@pytest.mark.parametrize("slots", [1, 2])
def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path, slots: int) -> None:
    counter = """
import os, sys
folder = sys.argv[1]
mine = os.path.join(folder, str(os.getpid()))
open(mine, "w").close()
for _ in range(200):
    open(os.path.join(folder, "..", "most"), "a").write(f"{len(os.listdir(folder))} ")
os.remove(mine)
"""

    async def play(bench: Bench) -> None:
        running = tmp_path / "running"
        running.mkdir()
        (bench.root / "count.py").write_text(counter)
        releases = []
        for number in range(4):
            release = await bench.release(
                f"web@{number}", build=[f"python count.py {running}", f"echo {number}"]
            )
            releases.append(release)
            bench.builder.request(release, False)
        for release in releases:
            assert (await bench.status(release)).phase == "built"
        seen = {int(word) for word in (tmp_path / "most").read_text().split()}
        assert max(seen) <= slots

    with_bench(tmp_path, play, slots=slots)


# --- crashes --------------------------------------------------------------------------------------

BUILDS = """
import asyncio, os, sys
from pathlib import Path
from volery.build.builder import LocalBuilder
from volery.build.source import Source
from volery.model.application import Service
from volery.model.state import Release

async def main(folder):
    builder = LocalBuilder(folder / "home", lambda: None, base_env=lambda _: dict(os.environ))
    await builder.open()
    spec = Service.model_validate({"run": "x", "build": [sys.argv[2]]})
    artifact = await builder.prepare("web", spec, folder / "app")
    print(artifact.digest, flush=True)
    builder.request(Release("web@1", "web", artifact.digest, spec, 0.0), False)
    await asyncio.sleep(1000)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_kill_9_ends_the_build_and_the_next_one_starts_afresh(tmp_path: Path) -> None:
    root, pids = tmp_path / "app", tmp_path / "pids"
    root.mkdir()
    (root / "family.py").write_text(FAMILY)
    (root / "b.sh").write_text(
        "#!/bin/sh\ntest -e dirt && exit 9\ntouch dirt\necho >> b.sh\n"
        f"test -e {tmp_path}/allowed || exec python family.py {pids}\n"
    )
    (root / "b.sh").chmod(0o755)
    child = subprocess.Popen(
        [sys.executable, "-c", BUILDS, str(tmp_path), "./b.sh"], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout
        digest = child.stdout.readline().strip()

        async def play() -> None:
            async with bench(tmp_path / "unused") as unused:
                found = await family(unused, pids)
                child.kill()
                child.wait()
                await unused.until(lambda: not any(alive(pid) for pid in found))

        (tmp_path / "unused").mkdir()
        asyncio.run(play())
    artifact = tmp_path / "home" / "artifacts" / "web" / digest
    assert (artifact / "src" / "dirt").exists()
    assert not (artifact / "built.json").exists()
    (root / "b.sh").write_text("the source has changed meanwhile")

    async def again() -> None:
        (tmp_path / "allowed").touch()
        builder = LocalBuilder(tmp_path / "home", lambda: None, base_env=lambda _: dict(os.environ))
        await builder.open()
        spec = service(build=["./b.sh"])
        builder.request(Release("web@1", "web", digest, spec, 0.0), False)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while builder.observe()["web@1"].phase == "building":
                await asyncio.sleep(0.01)
        assert builder.observe()["web@1"].phase == "built", builder.observe()
        await builder.close()

    asyncio.run(again())
    assert (artifact / "built.json").exists()


def test_leftovers_of_a_crash_are_cleared_away(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        artifacts = bench.home / "artifacts"
        for name in (".new-abc", ".old-abc", ".test-abc"):
            (artifacts / name / "d").mkdir(parents=True)
            (artifacts / name / "d" / "f").touch()
            (artifacts / name / "d").chmod(0o555)
        release = await bench.release()
        await bench.builder.open()
        assert [path.name for path in artifacts.iterdir()] == ["web"]
        assert bench.src(release).exists()

    with_bench(tmp_path, play)


# --- full disk ------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TinyDisk]:
    with tiny_disk(tmp_path / "tiny") as disk:
        yield disk


def test_full_disk_while_preparing_is_told_and_leaves_nothing(tiny: TinyDisk) -> None:
    async def play(bench: Bench) -> None:
        tiny.fill()
        with pytest.raises(VoleryError, match="No space left") as caught:
            await bench.release()
        assert caught.value.hint
        tiny.free()
        assert (await bench.build(await bench.release())).phase == "built"

    async def run() -> None:
        async with bench(tiny.folder) as made:
            await play(made)

    asyncio.run(run())


@pytest.mark.parametrize("when", ["copying", "building"])
def test_full_disk_while_building_is_told_and_tried_again(tiny: TinyDisk, when: str) -> None:
    async def play(bench: Bench) -> None:
        (bench.root / "data").write_bytes(b"x" * 200_000)
        command = "true" if when == "copying" else "cp data more"
        release = await bench.release(build=command)
        tiny.fill()
        if when == "building":
            os.truncate(tiny.folder / "ballast", (tiny.folder / "ballast").stat().st_size - 260_000)
        status = await bench.build(release)
        assert (status.phase, status.failed_in) == ("failed", "build")
        assert not bench.src(release).exists()
        if when == "copying":
            assert "No space left" in status.reason
        assert "disk is full" in status.reason
        tiny.free()
        bench.builder.cancel(release.id)
        assert (await bench.build(release)).phase == "built"

    async def run() -> None:
        async with bench(tiny.folder) as made:
            await play(made)

    asyncio.run(run())


# --- pruning --------------------------------------------------------------------------------------


def test_prunes_the_oldest_that_nobody_keeps(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        artifacts = []
        for number in range(7):
            release = await bench.release(build=["mkdir d", f"touch d/{number}"])
            assert (await bench.build(replace(release, id=f"web@{number}"))).phase == "built"
            folder = bench.src(release).parent
            os.utime(folder, (number, number))
            artifacts.append(folder)
        keep = {"web": {artifacts[1].name}, "other": {"x"}}
        bench.builder.prune(keep)
        assert [path.exists() for path in artifacts] == [
            False,
            True,
            False,
            False,
            True,
            True,
            True,
        ]
        await bench.until(lambda: len(list((bench.home / "artifacts").iterdir())) == 1)
        bench.builder.prune(keep)
        assert sum(path.exists() for path in artifacts) == 4

    with_bench(tmp_path, play)


def test_prunes_beside_what_is_not_ours_and_on_a_full_disk(tiny: TinyDisk) -> None:
    async def run() -> None:
        async with bench(tiny.folder) as made:
            releases = [await made.release(build=f"echo {number}") for number in range(4)]
            os.utime(made.src(releases[0]).parent, (1, 1))
            artifacts = made.home / "artifacts"
            strays = [artifacts / "note.txt", artifacts / "web" / "note.txt"]
            for stray in strays:
                stray.touch()
                os.utime(stray, (1, 1))
            tiny.fill()
            made.builder.prune({})
            assert not made.src(releases[0]).parent.exists()
            await made.until(lambda: not list(artifacts.glob(".old-*")))
            assert all(stray.exists() for stray in strays)

    asyncio.run(run())


def test_never_prunes_what_is_worked_on(tmp_path: Path) -> None:
    async def play(bench: Bench) -> None:
        gate, begun = tmp_path / "gate", tmp_path / "begun"
        wait = f"sh -c 'touch {begun}; while ! test -e {gate}; do sleep 0.02; done'"
        busy = await bench.release(build=wait)
        bench.builder.request(busy, False)
        await bench.until(begun.exists)
        for number in range(4):
            await bench.release(build=f"echo {number}")
        os.utime(bench.src(busy).parent, (1, 1))
        bench.builder.prune({})
        assert bench.src(busy).exists()
        gate.touch()
        assert (await bench.status(busy)).phase == "built"
        os.utime(bench.src(busy).parent, (1, 1))

        def pruned() -> bool:
            bench.builder.prune({})
            return not bench.src(busy).exists()

        await bench.until(pruned)  # as soon as the job has let go of it

    with_bench(tmp_path, play)
