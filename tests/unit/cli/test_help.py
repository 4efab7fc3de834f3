"""Every option of every command says in its help what it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import getdoc, signature

import pytest

from volery.cli.commandline import build_app
from volery.cli.overview import COMMANDS, SECRET, overview

TARGETS = {name: target for name, (target, _, _) in COMMANDS.items()}
TARGETS |= {f"secret {name}": f"secrets:{name}_" for name in SECRET}


def command(target: str) -> Callable[..., object]:
    module, _, function = target.partition(":")
    found: Callable[..., object] = getattr(import_module(f"volery.cli.commands.{module}"), function)
    return found


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_parameter_is_described(target: str) -> None:
    function = command(target)
    text = getdoc(function) or ""
    told = {line.split(":")[0].strip() for line in text.partition("Args:")[2].splitlines()}
    asked = {name for name in signature(function).parameters if name != "session"}
    assert asked <= told


def test_the_overview_tells_of_every_command_and_every_option() -> None:
    app = build_app()
    launch = app.meta.default_command
    assert launch is not None
    options = {f"--{name}" for name in signature(launch).parameters if name != "tokens"}
    told = {line.split()[0].rstrip(",") for line in overview().splitlines() if line[:2] == "  "}
    assert {*app, *options} - {"-h"} == told


def shown(*command: str) -> str:
    """What `--help` prints of a command, its lines joined."""
    printed = subprocess.run(
        [sys.executable, "-m", "volery", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "120"},
    ).stdout
    return " ".join(printed.split())


def test_the_form_is_one_that_help_reads() -> None:
    """Another form of docstring would be read by people and left out of the help."""
    assert "Also a release that was refused before." in shown("deploy")


def test_the_help_of_a_command_is_all_that_it_says_of_itself() -> None:
    assert "Fewer than its floor is refused without --yes." in shown("scale")


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ("guard", "Let automation go on that was stopped"),
        ("volumes", "Bring a deleted volume back"),
        ("secret", "Remove a secret"),
    ],
)
def test_the_help_of_a_group_tells_what_its_commands_do(group: str, said: str) -> None:
    assert said in shown(group)
