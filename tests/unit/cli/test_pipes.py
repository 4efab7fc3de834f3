"""What scripts read through a pipe comes at once, and a reader that has enough is no failure."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from unit.cli.desk import Desk


def test_each_document_comes_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(pipe)))
    Desk().session("json").emit({"app": "birds"})
    assert pipe.getvalue() == b'{"app": "birds"}\n'


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["version", "--output", "json"]])
@pytest.mark.parametrize("both", [False, True])
def test_a_reader_that_goes_away_is_told_as_the_shell_does(
    arguments: list[str], both: bool
) -> None:
    """Also `2>&1 | head`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "volery", *arguments],
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        stdout=write,
        stderr=write if both else subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert done.returncode == 141 and not done.stderr
