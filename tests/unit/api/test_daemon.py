"""What a control plane allows itself."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from volery.api.daemon import DESCRIPTORS, ControlPlane, allow_descriptors
from volery.api.home import Home
from volery.model.errors import VoleryError


@pytest.fixture
def hard() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_has_descriptors_for_many_instances(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    allow_descriptors()
    soft, unchanged = resource.getrlimit(resource.RLIMIT_NOFILE)
    whole = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    assert (soft, unchanged) == (whole, hard)


def test_a_mistake_of_its_own_that_stops_everything_is_told_once_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = ControlPlane(Home(tmp_path))
    happens: list[Exception | None] = [IndexError("x"), IndexError("x"), VoleryError("full"), None]
    happens.append(IndexError("x"))

    def tick() -> bool:
        error = happens.pop(0)
        if error is not None:
            raise error
        return False

    monkeypatch.setattr(plane.controller, "tick", tick)
    while happens:
        plane.look()
    told = [(event.kind, event.text) for event in plane.store.events(0, 10)]
    assert told == [("control_plane.stuck", "nothing can be decided: IndexError: x")] * 2
