"""A control plane that was started by another version of Volery."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.cli.desk import Desk
from unit.cli.test_looking import SERVICE, STATUS

from volery.api import app, launch
from volery.api.home import Home
from volery.cli.commandline import invoke
from volery.cli.session import Session
from volery.cli.show.tables import show_status
from volery.model.errors import VoleryError


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    desk.up()
    session = desk.session()
    monkeypatch.setattr("volery.cli.commandline.Session", lambda *given: session)
    return desk


def is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "CODE", "of another version")


def said(*arguments: str) -> VoleryError:
    with pytest.raises(VoleryError) as error:
        invoke(list(arguments))
    return error.value


def test_an_answer_that_lacks_something_is_then_no_defect(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volery.api.wire.status", lambda *given: STATUS | {"gateway": {}})
    with pytest.raises(KeyError):
        invoke(["status"])
    is_another(monkeypatch)
    error = said("status")
    assert error.message == (
        "the control plane is of another version of Volery and answers in another way: "
        "KeyError 'url'"
    )
    assert error.hint == "volery up replaces it by this version; what runs goes on"


def test_what_it_does_not_know(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "by", property(lambda self: 1))
    assert said("scale", "shop", "3").message == "must be text"
    is_another(monkeypatch)
    error = said("scale", "shop", "3")
    assert error.message == (
        "the control plane is of another version of Volery and does not know what it was asked: "
        "must be text"
    )
    assert error.where == "by"


def test_a_mistake_stays_a_mistake(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    is_another(monkeypatch)
    assert said("status", "shpo").hint == "did you mean shop?"


def test_status_of_a_control_plane_that_knows_of_nothing_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service: dict[str, Any] = {key: SERVICE[key] for key in SERVICE if key != "removed"}
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    show_status(STATUS | {"services": {"storefront": service}})


@pytest.mark.parametrize("running", ["", "of another version"])
def test_up_replaces_one_of_other_code_with_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str
) -> None:
    answers, supervised = iter([running, app.CODE]), iter([True, False])
    stopped: list[Home] = []
    monkeypatch.setattr(launch, "is_supervised", lambda home: next(supervised))
    monkeypatch.setattr(launch, "_answers", lambda client: next(answers))
    monkeypatch.setattr(launch, "stop_control_plane", stopped.append)
    monkeypatch.setattr(launch, "launch", lambda home: None)
    home = Home(tmp_path / "app" / "dev")
    assert launch.ensure_control_plane(home) and stopped == [home]
