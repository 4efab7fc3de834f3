"""Waiting for a control plane that its shim starts again."""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path

import pytest

from volery.api import launch
from volery.api.home import Home
from volery.api.launch import ensure_control_plane
from volery.api.version import code
from volery.model.errors import VoleryError


@pytest.mark.parametrize(("later", "comes"), [(0, True), (1, True), (3, False)])
def test_only_what_ends_while_we_wait_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int, comes: bool
) -> None:
    """It ended often before: that is no reason to stop it now."""
    answers = iter([None, None, None, *([code()] if comes else [None] * 9)])
    restarts = iter([7, 7, 7 + later])
    stopped: list[Home] = []
    monkeypatch.setattr(launch, "is_supervised", lambda home: True)
    monkeypatch.setattr(launch, "_answers", lambda client: next(answers))
    monkeypatch.setattr(launch, "_restarts", lambda home: next(restarts))
    monkeypatch.setattr(launch, "stop_control_plane", stopped.append)
    home = Home(tmp_path / "app" / "dev")
    if comes:
        assert not ensure_control_plane(home)
    else:
        with pytest.raises(VoleryError, match="the control plane does not start"):
            ensure_control_plane(home)
    assert bool(stopped) is not comes


def test_what_another_stops_meanwhile_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised = iter([True, True, False, True, True])
    answers = iter([None, None, None, code()])
    launched: list[Home] = []
    monkeypatch.setattr(launch, "is_supervised", lambda home: next(supervised))
    monkeypatch.setattr(launch, "_answers", lambda client: next(answers))
    monkeypatch.setattr(launch, "launch", launched.append)
    home = Home(tmp_path / "app" / "dev")
    assert ensure_control_plane(home) and launched == [home]


@pytest.mark.parametrize("comes", [True, False])
def test_between_two_versions_no_shim_is_there_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    supervised = chain([True, False, False], repeat(comes))
    answers = iter([None, code()])
    monkeypatch.setattr(launch, "is_supervised", lambda home: next(supervised))
    monkeypatch.setattr(launch, "_answers", lambda client: next(answers))
    monkeypatch.setattr(launch, "CHANGE_SECONDS", 60.0 if comes else 0.2, raising=False)
    assert launch.comes_back(Home(tmp_path / "app" / "dev")) is comes
