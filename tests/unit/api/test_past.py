"""The past is read from its end: a long ledger costs no more than a short one."""

from __future__ import annotations

import pytest

from volery.api import past
from volery.api.past import EventQuery, past_events
from volery.model.state import Event
from volery.store.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """An event a second; every third is of the web."""
    made = MemoryStore(keep=10_000)
    names = ("web", "db", None)
    made.commit([], [Event(float(n), "x.y", str(n), service=names[n % 3]) for n in range(3000)])
    return made


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (EventQuery(limit=2), ["2998", "2999"]),
        (EventQuery("web", limit=2), ["2994", "2997"]),
        (EventQuery("web", since=2990.0), ["2991", "2994", "2997"]),
        (EventQuery("web", since=5000.0), []),
        (EventQuery(limit=0), []),
    ],
)
def test_the_last_ones_that_are_asked_for(
    store: MemoryStore, query: EventQuery, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    latest = store.latest

    def counted(limit: int, before: int | None = None, service: str | None = None) -> object:
        asked.append(limit)
        return latest(limit, before, service)

    monkeypatch.setattr(store, "latest", counted)
    assert [event.text for event in past_events(store, query)] == texts
    assert sum(asked) <= 2 * past.PAGE_EVENTS


def test_as_far_back_as_somebody_wants(store: MemoryStore) -> None:
    assert len(past_events(store, EventQuery(since=100.0, limit=10_000))) == 2900
    assert len(past_events(store, EventQuery("web", limit=700))) == 700
    assert [e.text for e in past_events(store, EventQuery("web", limit=700), after=2995)] == [
        "2997"
    ]
