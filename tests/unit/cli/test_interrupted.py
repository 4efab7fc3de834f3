"""Ctrl-C, and a reader that has enough: what is said of what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from volery.cli import main
from volery.cli.session import Session


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True

    def readline(self, *_: object) -> str:  # type: ignore[override]
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up"], "interrupted; what was begun goes on (volery status)"),
        (["logs", "web", "-f"], ""),
        (["events", "--follow"], ""),
        (["status", "--watch"], ""),
    ],
)
def test_what_was_begun_goes_on_unless_it_was_only_looked_at(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "_run", interrupted)
    assert main.run(arguments) == 130
    assert capsys.readouterr().err.strip() == said


def test_at_a_question_nothing_was_changed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = tmp_path / "volery.yaml"
    manifest.write_text("app: tea\nservices: {web: {run: serve}}\n")

    def asked(_: list[str]) -> int:
        Session("dev", manifest, "text", yes=False).confirm("delete all volumes")
        return 0

    monkeypatch.setattr(main, "_run", asked)
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main.run(["down", "--volumes"]) == 130
    assert capsys.readouterr().err.endswith("interrupted; nothing was changed\n")


PRINTS_A_TABLE = """
from volery.cli import main
from volery.cli.show.console import out
main._run = lambda _: [out().print("line") for _ in range(9)] and 0
main.main(["plan"])
"""


def test_a_reader_that_has_enough_is_no_mistake() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", PRINTS_A_TABLE]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")
