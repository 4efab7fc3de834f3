"""Wrong manifests and command lines: one clear error with place and remedy, quickly, no traceback.

No test here starts a control plane; a command that would leave one behind fails in the fixture.
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acceptance.project import Project, Result
from volery.cli.overview import COMMANDS

LOCATED = re.compile(r"volery\.yaml:\d+:\d+: .+")
QUICK_SECONDS = 20.0
"""A loaded machine is slow; an alias bomb that explodes would take for ever or all memory."""

HEAD = "app: trial\nservices:\n"
GOOD = HEAD + "  web: {run: python3 -m http.server}\n"

UNUSABLE: dict[str, str] = {
    "empty": "",
    "only a comment": "# nothing\n",
    "a list": "- app\n- services\n",
    "unparseable": "app: [trial\nservices: }\n",
    "tabs": "app:\n\t- trial\n",
    "a control character": "app: tri\x07al\n",
    "duplicate keys": "app: trial\napp: again\nservices: {}\n",
    "unknown key": GOOD + "servces: {}\n",
    "unknown need": HEAD + "  web: {run: 'true', needs: [nobody]}\n",
    "a cycle": HEAD + "  a: {run: 'true', needs: [b]}\n  b: {run: 'true', needs: [a]}\n",
    "colliding routes": GOOD
    + "gateway:\n  routes: [{path: /, service: web}, {path: /, service: web}]\n",
    "scale of zero": HEAD + "  web: {run: 'true', scale: 0}\n",
    "a bad unit": HEAD + "  web: {run: 'true', stop: {drain: 15 parsecs}}\n",
    "a missing source": HEAD + "  web: {run: 'true', source: ./nowhere}\n",
    "a missing command": HEAD + "  web: {run: no-such-bird --port 1}\n",
    "deeply nested list": "app: " + "[" * 20_000 + "]" * 20_000 + "\n",
    "deeply nested mapping": "app: " + "{a: " * 5_000 + "1" + "}" * 5_000 + "\n",
    "two documents": GOOD + "---\n" + GOOD,
    "a tag that would construct": "app: !!python/object/apply:os.system [id]\n",
}


def check(project: Project, *more: str) -> Result:
    began = time.monotonic()
    result = project.volery(*more, "check")
    assert time.monotonic() - began < QUICK_SECONDS
    return result


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_wrong_manifest_is_told_with_its_place(project: Project, text: str) -> None:
    (project.folder / "volery.yaml").write_text(text)
    result = check(project)
    assert result.code == 2, result.text
    assert result.out == ""
    assert LOCATED.search(result.err), result.err
    assert len(result.err) < 10_000, "a mistake is told, the manifest is not repeated"

    up = project.volery("up")
    assert up.code == 2 and not project.home.exists(), "nothing is begun with a wrong manifest"


def test_a_huge_manifest_is_refused_at_once(project: Project) -> None:
    lines = "".join(f"  s{n}: {{run: 'true', env: {{A: '{'x' * 60}'}}}}\n" for n in range(110_000))
    (project.folder / "volery.yaml").write_text(HEAD + lines)
    assert (project.folder / "volery.yaml").stat().st_size > 10_000_000
    result = check(project)
    assert result.code == 2 and "volery.yaml" in result.err, result.err
    assert len(result.err) < 2_000


def test_an_alias_bomb_does_not_explode(project: Project) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (project.folder / "volery.yaml").write_text("\n".join([*levels, GOOD]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = check(project)
    assert result.code == 2 and LOCATED.search(result.err), result.err
    grown = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert max(before, grown) < 1_000_000, "kilobytes"


def test_bytes_that_are_no_text(project: Project) -> None:
    (project.folder / "volery.yaml").write_bytes(b"app: \xff\xfe\x00\x80\n")
    result = check(project)
    assert result.code == 2 and "volery.yaml" in result.err


def test_every_mistake_is_told_in_one_run(project: Project) -> None:
    text = HEAD + (
        "  web:\n"
        "    run: python3 -m http.server\n"
        "    scale: 0\n"
        "    protcol: http\n"
        "    stop: {drain: never}\n"
        "    needs: [nobody]\n"
    )
    (project.folder / "volery.yaml").write_text(text)
    result = check(project)
    places = {match.group(1) for match in re.finditer(r"volery\.yaml:(\d+):\d+:", result.err)}
    assert {"5", "6", "7", "8"} <= places, result.err
    assert "services.web.scale: must be at least 1, got 0" in result.err
    assert "protocol" in result.err.split("protcol")[-1], "the nearest known key"


def test_no_manifest_and_one_that_cannot_be_read(project: Project) -> None:
    result = check(project)
    assert result.code == 2 and "volery init" in result.text
    result = check(project, "--file", "elsewhere/volery.yaml")
    assert result.code == 2 and "volery.yaml" in result.err and "elsewhere" in result.err
    (project.folder / "volery.yaml").mkdir()
    result = check(project)
    assert result.code == 2 and len(result.err.splitlines()) <= 2


MISUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "unknown command": (("deplyo", "web"), 2, "did you mean deploy?"),
    "unknown option": (("up", "--fast"), 2, "--fast"),
    "unknown environment": (("--env", "moon", "up"), 2, "known: dev"),
    "unknown output": (("--output", "xml", "status"), 2, "xml"),
    "deploy of nothing": (("deploy",), 2, "web"),
    "deploy before up": (("deploy", "web"), 7, "volery up"),
    "status before up": (("status",), 7, "volery up"),
    "logs before up": (("logs", "web"), 7, "volery up"),
    "events before up": (("events",), 7, "volery up"),
    "scale before up": (("scale", "web", "2"), 7, "volery up"),
    "scale without a number": (("scale", "web"), 2, "INSTANCES"),
    "scale by a word": (("scale", "web", "many"), 2, "many"),
    "a bad duration": (("logs", "web", "--since", "yesterday"), 2, "yesterday"),
    "a bad time limit": (("up", "--timeout", "soon"), 2, "soon"),
    "too many words": (("version", "1"), 2, "1"),
    "unknown shell": (("completion", "tcsh"), 2, "tcsh"),
    "a group alone": (("secret",), 2, "set, list or rm"),
    "unknown command of a group": (("secret", "lst"), 2, "did you mean secret list?"),
    "a command that lacks a word": (("secret", "set"), 2, "volery secret set --help"),
    "a secret's value on the command line": (("secret", "set", "KEY=swordfish"), 2, "KEY"),
    "a secret's value beside its name": (("secret", "set", "KEY", "swordfish"), 2, "< file"),
}
FOR_SCRIPTS = {name: row for name, row in MISUSED.items() if "--output" not in row[0]}


@pytest.mark.parametrize(("arguments", "code", "words"), MISUSED.values(), ids=MISUSED.keys())
def test_a_wrong_command_line(
    project: Project, arguments: tuple[str, ...], code: int, words: str
) -> None:
    project.service("web")
    result = project.volery(*arguments)
    assert result.code == code, result.text
    assert words.lower() in result.err.lower(), result.err
    assert result.out == "" and len(result.err.splitlines()) <= 2
    assert result.err.startswith("error: ")
    assert "swordfish" not in result.text


@pytest.mark.parametrize(
    ("arguments", "code", "words"), FOR_SCRIPTS.values(), ids=FOR_SCRIPTS.keys()
)
def test_a_wrong_command_line_for_a_script(
    project: Project, arguments: tuple[str, ...], code: int, words: str
) -> None:
    project.service("web")
    result = project.volery("--output", "json", *arguments)
    assert result.code == code and result.out == ""
    document = json.loads(result.err)
    assert list(document) == ["error"]
    assert set(document["error"]) == {"code", "message", "hint", "where"}
    assert all(isinstance(value, str) for value in document["error"].values())
    assert words.lower() in result.err.lower()


def test_mistakes_of_a_manifest_for_a_script(project: Project) -> None:
    (project.folder / "volery.yaml").write_text(HEAD + "  web: {run: 'true', scale: 0}\n")
    result = project.volery("--output", "json", "check")
    assert result.code == 2 and result.out == ""
    error = json.loads(result.err)["error"]
    assert error["code"] == "invalid"
    assert "volery.yaml:3:" in error["where"] + error["message"]


def test_a_port_in_use_is_told_by_doctor(project: Project) -> None:
    import socket

    project.service("web")
    with socket.create_server(("127.0.0.1", project.port)):
        result = project.volery("doctor")
    assert result.code == 1 and str(project.port) in result.out and "hint:" in result.out


def test_every_command_explains_itself(project: Project, tmp_path: Path) -> None:
    names = [*([name] for name in COMMANDS), *(["secret", verb] for verb in ("set", "list", "rm"))]
    for name in names:
        result = project.ok(*name, "--help")
        assert "Usage: volery" in result.out, name
        assert result.err == "" and len(result.out) > 60
    for first in ([], ["--help"]):
        everything = project.ok(*first).out
        assert all(f" {name} " in everything for name in COMMANDS)
    assert not project.home.exists()


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("schema > /dev/full", 1, "cannot write the output: No space left on device"),
        ("down --volumes <&-", 6, "needs --yes"),
        ("secret set KEY <&-", 2, "no value for KEY"),
        ("version >&-", 0, ""),
        ("down --volumes 2>&-", 6, ""),
    ],
)
def test_streams_that_are_closed_or_full(project: Project, line: str, code: int, said: str) -> None:
    (project.folder / "volery.yaml").write_text(GOOD)
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m volery {line}"],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "defect" not in done.stderr
