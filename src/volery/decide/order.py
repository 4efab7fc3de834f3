"""Who must be there before whom.

A need orders its caller after it, unless the edge is `degradable`: such a caller can live
without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

from volery.model.application import Service


def ordering_needs(service: Service) -> list[str]:
    """The needs that must be up before this service starts."""
    return [name for name, need in service.needs.items() if need.importance != "degradable"]


def start_order(services: Mapping[str, Service]) -> list[list[str]]:
    """Layers that can start together, first layer first.

    Raises:
        graphlib.CycleError: needs go in a circle; its second argument is the circle.
    """
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for name in sorted(services):
        sorter.add(name, *(need for need in ordering_needs(services[name]) if need in services))
    sorter.prepare()
    layers = []
    while sorter.is_active():
        layer = sorted(sorter.get_ready())
        sorter.done(*layer)
        layers.append(layer)
    return layers


def find_cycle(services: Mapping[str, Service]) -> list[str] | None:
    """One circle of needs, first name repeated at the end; None if there is none."""
    try:
        start_order(services)
    except CycleError as error:
        return list(error.args[1])
    return None


def callers(name: str, services: Mapping[str, Service]) -> list[str]:
    """The services that need this one, in any way."""
    return sorted(other for other, service in services.items() if name in service.needs)


def called(name: str, services: Mapping[str, Service]) -> set[str]:
    """The services that this one calls, in any way, through any chain of needs; itself among them
    if it is in a circle."""
    found: set[str] = set()
    unvisited = [name]
    while unvisited:
        current = services.get(unvisited.pop())
        fresh = set(current.needs) - found if current else set()
        found |= fresh
        unvisited += fresh
    return found


def waits_for(name: str, services: Mapping[str, Service], among: Collection[str]) -> list[str]:
    """Which of `among` must be done before `name` starts, reached through any chain of needs."""
    found: set[str] = set()
    open_names = [name]
    seen = {name}
    while open_names:
        current = open_names.pop()
        for need in ordering_needs(services[current]) if current in services else ():
            if need not in seen:
                seen.add(need)
                open_names.append(need)
                if need in among:
                    found.add(need)
    return sorted(found)
