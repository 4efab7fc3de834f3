"""The guard and the volumes, for eyes."""

from __future__ import annotations

from typing import Any

from volery.cli.show.console import out
from volery.cli.show.table import age, print_table, table

Json = dict[str, Any]


def show_guard(found: Json) -> None:
    """Budget, who is disturbed, who waits and for what, brakes."""
    limits = found["limits"]
    share, velocity = limits["at_once"], limits["velocity"]
    out().print(
        f"{len(found['disturbed'])} disturbed, {found['limit']} may be at once"
        f" ({share:.0%} of {found['ready']} ready), {velocity['at_most']} within"
        f" {velocity['within']:g}s; {limits['starts']} may start at once",
        markup=False,
    )
    shown = table("SERVICE", "READY", "NEEDED", "FLOOR")
    for name, item in found["services"].items():
        shown.add_row(name, str(item["ready"]), str(item["needed"]), str(item["floor"]))
    print_table(shown)
    for item in found["disturbed"]:
        line = f"{item['instance']} is disturbed ({item['cause']}) since {age(item['since'])}"
        out().print(line, markup=False)
    show_waiting(found["waiting"])
    show_brakes(found["brakes"])


def show_waiting(waiting: list[Json]) -> None:
    """One line for each: why it waits, and what would release it."""
    for item in waiting:
        what = item["instance"] or f"new instances of {item['service']}"
        out().print(
            f"{what} waits ({item['cause']}: {item['wish']}) for {age(item['since'])}:"
            f" {item['because']}; released when: {item['until']}",
            markup=False,
        )


def show_brakes(brakes: list[Json]) -> None:
    """One line for each: why, until when, how to release it."""
    for item in brakes:
        what = f"the automation of {item['service']}" if item["service"] else "all automation"
        release = f"volery guard release {item['service'] or '--all'}"
        out().print(
            f"{what} stands still until {item['until']}: {item['because']};"
            f" release it with: {release}",
            markup=False,
        )


def show_volumes(volumes: list[Json]) -> None:
    """Live and deleted ones."""
    if not volumes:
        print("no volumes")
        return
    shown = table("VOLUME", "STATE", "BYTES", "CAN BE RESTORED UNTIL")
    for item in volumes:
        shown.add_row(item["name"], item["state"], str(item["bytes"]), item["expires_at"] or "-")
    print_table(shown)
