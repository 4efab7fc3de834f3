"""What the ledger remembers of the past, the same with a control plane and from the file alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from volery.api import wire
from volery.decide.story import story
from volery.decide.submit import known
from volery.decide.world import World
from volery.model.ports import Store
from volery.model.state import Event

PAGE_EVENTS = 500
STORY_EVENTS, STORY_CHAPTERS = 20_000, 20
"""How far back a story looks, and how much of it is told."""


@dataclass(frozen=True)
class EventQuery:
    """Which events: of which service (all if none), since when (Unix seconds), the last so many."""

    service: str | None = None
    since: float | None = None
    limit: int = 1000


def heard_of(store: Store, world: World, service: str) -> str:
    """The name of a service that is there, or was: the ledger has events about it.

    Raises:
        VoleryError: NOT_FOUND, with the nearest name of one that is there.
    """
    if service in world.services or store.events(0, 1, service):
        return service
    return known(world, service).name


def past_events(store: Store, query: EventQuery, after: int = 0) -> Sequence[Event]:
    """The events asked for with a sequence number above `after`, oldest first."""
    return joined(list(past_pages(store, query, after)), query)


def past_pages(store: Store, query: EventQuery, after: int = 0) -> Iterator[Sequence[Event]]:
    """The same a page at a time, the newest page first, and perhaps a few more."""
    count, before = 0, None
    while count < query.limit:
        page = store.latest(PAGE_EVENTS, before, query.service)
        late = [item for item in page if item.seq > after and _is_late(item, query)]
        yield late
        if not late or len(page) < PAGE_EVENTS:  # the ledger may be long: no further than needed
            return
        count, before = count + len(late), page[0].seq


def joined(pages: Sequence[Sequence[Event]], query: EventQuery) -> Sequence[Event]:
    """What these pages have, oldest first, as many as were asked for."""
    found = [item for page in reversed(pages) for item in page]
    return found[max(0, len(found) - query.limit) :]


def _is_late(event: Event, query: EventQuery) -> bool:
    return query.since is None or event.at >= query.since


def told(store: Store, service: str, since: float | None, limit: int) -> wire.Json:
    """The story of a service: its newest `limit` chapters, as JSON."""
    events = past_events(store, EventQuery(None, since, STORY_EVENTS))
    chapters = story(events, service)[-limit:] if limit > 0 else []
    return wire.story(service, chapters)


def remembered(store: Store) -> World:
    """What is remembered, with nothing observed."""
    environment = store.documents("environment").get("environment")
    return World(
        environment=environment,  # type: ignore[arg-type]
        services=store.documents("service"),  # type: ignore[arg-type]
        releases=store.documents("release"),  # type: ignore[arg-type]
        rollouts=store.documents("rollout"),  # type: ignore[arg-type]
    )
