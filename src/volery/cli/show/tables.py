"""Status, rollout, releases, plan: the same fields as the JSON, for eyes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from volery.cli.show.console import out, styled
from volery.model.units import format_duration

Json = dict[str, Any]
WORST_FIRST = ("down", "degraded", "deploying", "healthy")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def age(moment: str | None) -> str:
    """How long ago an RFC 3339 time was."""
    if not moment:
        return "-"
    then = datetime.fromisoformat(moment)
    return format_duration(max(0, round((datetime.now(UTC) - then).total_seconds())))


def show_status(status: Json) -> None:
    """The environment at a glance, worst services first."""
    console = out()
    gateway = status["gateway"]
    console.print(
        f"[bold]{status['app']}[/] {status['environment']} ({status['engine']})"
        f"  gateway {gateway['url']} {styled(gateway['state'])}"
    )
    table = _table("SERVICE", "STATE", "RELEASE", "READY", "RESTARTS", "URL")
    services = status["services"].items()
    for name, service in sorted(
        services, key=lambda item: (WORST_FIRST.index(item[1]["state"]), item[0])
    ):
        live = [item for item in service["instances"] if item["release"] == service["release"]]
        ready = sum(item["state"] == "ready" for item in live)
        restarts = sum(item["restarts"] for item in service["instances"])
        table.add_row(
            name,
            styled(service["state"]),
            service["release"] or "-",
            f"{ready}/{service['desired']}",
            str(restarts),
            service["url"] or "",
        )
    console.print(table)
    for name, service in services:
        _show_trouble(name, service)


def _show_trouble(name: str, service: Json) -> None:
    rollout = service["rollout"]
    if rollout:
        out().print(f"{name}: {rollout_line(rollout)}")
    elif not service["desired"]:
        out().print(f"{name}: scaled to 0: volery scale {name} N starts it")
    if service["trouble"]:
        often = service["start_failures"]
        again = f" ({often} times in a row)" if often > 1 else ""
        said = f"{service['trouble']}{again}; see: volery logs {name}"
        out().print(f"{name}: {said}", markup=False)
    warm = {item["release"]: item for item in service["instances"] if item["warm_until"]}
    for release, item in warm.items():
        until, share = item["warm_until"], item["weight"]
        said = f"warm until {until} for a quick rollback, {share:g} % of requests"
        out().print(f"{name}: {release} is {said}", markup=False)
    for item in service["instances"]:
        if item["state"] in ("unready", "failed", "starting") and item["detail"]:
            out().print(f"{item['id']}: {styled(item['state'])}: {escape(item['detail'])}")


def show_service(name: str, service: Json) -> None:
    """One service with its instances."""
    console = out()
    console.print(f"[bold]{name}[/] {styled(service['state'])}  {service['release'] or ''}")
    table = _table("INSTANCE", "TRACK", "STATE", "PID", "ADDRESS", "RESTARTS", "AGE", "LIMITS")
    for item in service["instances"]:
        limits = ", ".join(f"{key}: {value}" for key, value in sorted(item["limits"].items()))
        table.add_row(
            item["id"],
            item["track"],
            styled(item["state"]),
            str(item["pid"] or "-"),
            item["address"] or "-",
            str(item["restarts"]),
            age(item["started_at"]),
            limits,
        )
    console.print(table)
    _show_trouble(name, service)


def rollout_line(rollout: Json) -> str:
    """A rollout in one line."""
    origin = f"{rollout['from']} -> " if rollout["from"] else ""
    text = f"{rollout['id']} {origin}{rollout['to']} {styled(rollout['phase'])}"
    if rollout["steps"] > 1 or rollout["weight"]:
        text += f" step {rollout['step']}/{rollout['steps']}, {rollout['weight']:g} % of requests"
    return text + (f": {escape(rollout['reason'])}" if rollout["reason"] else "")


def show_releases(document: Json) -> None:
    """Releases, newest first."""
    table = _table("RELEASE", "STATE", "AGE", "BY", "REASON")
    for item in document["releases"]:
        table.add_row(
            item["release"],
            styled(item["state"]),
            age(item["created_at"]),
            item["by"],
            escape(item["reason"]),
        )
    out().print(table)


def show_plan(plan: Json) -> None:
    """A plan, a line each, with its blast radius."""
    for line in plan["gateway"]:
        out().print(f"gateway: {line}", markup=False, highlight=False)
    for step in plan["steps"]:
        out().print(escape(step["text"]))
        if step["blast_radius"]:
            out().print(f"    blast radius: {step['blast_radius']}")
        for line in (step["forecast"] or {"text": []})["text"]:
            out().print(f"    {line}", markup=False, highlight=False)
    if not plan["gateway"] and all(step["verb"] == "keep" for step in plan["steps"]):
        out().print("nothing to do")


def event_line(event: Json) -> str:
    """An event in one line."""
    return f"{event['at']}  {event['kind']:22} {escape(event['text'])}"
