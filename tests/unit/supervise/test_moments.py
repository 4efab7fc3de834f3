"""Moments that are common to all who look again and again."""

from __future__ import annotations

import pytest

from volery.supervise import moments


@pytest.mark.parametrize("every", [0.5, 1.0, 10.0])
def test_all_end_their_pauses_together_and_about_when_they_wanted(
    monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    ends = set()
    for step in range(100):
        now = 1000.0 + step * every / 100
        monkeypatch.setattr("volery.supervise.moments.time.monotonic", lambda now=now: now)
        wait = moments.pause(every)
        assert wait == pytest.approx(every, rel=0.51 * moments.APART)
        ends.add(round((now + wait) / every, 6))
    assert len(ends) <= 1 / moments.APART + 1


def test_whoever_is_in_step_stays_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    for late in (0.0, 0.05, 0.001, 0.09):
        monkeypatch.setattr("volery.supervise.moments.time.monotonic", lambda at=now + late: at)
        end = now + late + moments.pause(1.0)
        assert end == pytest.approx(now + 1.0)
        now = end
