"""Status, rollout, releases, plan: the same fields as the JSON, for eyes."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from volery.cli.show.console import out, styled
from volery.cli.show.guard import show_brakes, show_waiting
from volery.cli.show.table import age, print_table, table

Json = dict[str, Any]
WORST_FIRST = ("down", "degraded", "deploying", "healthy", "leaving")


def show_status(status: Json) -> None:
    """The environment at a glance, worst services first."""
    console = out()
    gateway = status["gateway"]
    console.print(
        f"[bold]{status['app']}[/] {status['environment']} ({status['engine']})"
        f"  gateway {gateway['url']} {styled(gateway['state'])}"
    )
    shown = table("SERVICE", "STATE", "RELEASE", "READY", "RESTARTS", "URL", fold=["URL"])
    services = status["services"].items()
    for name, service in sorted(
        services, key=lambda item: (WORST_FIRST.index(item[1]["state"]), item[0])
    ):
        live = [item for item in service["instances"] if item["release"] == service["release"]]
        ready = sum(item["state"] == "ready" for item in live)
        shown.add_row(
            name,
            styled(service["state"]),
            service["release"] or "-",
            f"{ready}/{service['desired']}",
            str(service["restarts"]),
            service["url"] or "",
        )
    print_table(shown)
    for name, service in services:
        _show_trouble(name, service)
    show_waiting([item for _, service in services for item in service["waiting"]])
    show_brakes(status["guard"]["brakes"])


def _show_trouble(name: str, service: Json) -> None:
    rollout = service["rollout"]
    if rollout:
        out().print(f"{name}: {rollout_line(rollout)}")
    elif not service["desired"]:
        out().print(f"{name}: scaled to 0: volery scale {name} N starts it")
    if service.get("removed"):
        out().print(f"{name}: {service['removed']}", markup=False)
    if service["trouble"]:
        out().print(f"{name}: {_trouble(name, service)}", markup=False)
    for lack in service.get("needs_down", ()):
        out().print(f"{name}: {lack['text']}", markup=False)
    healing = service.get("heal")
    if healing:
        how = "did not help" if healing["verdict"] else healing["phase"]
        said = f"{healing['id']} {how}: {healing['instance']}: {healing['text']}"
        out().print(f"{name}: {said}; see: volery events --why {name}", markup=False)
    warm = {item["release"]: item for item in service["instances"] if item["warm_until"]}
    for release, item in warm.items():
        until, share = item["warm_until"], item["weight"]
        said = f"warm until {until} for a quick rollback, {share:g} % of requests"
        out().print(f"{name}: {release} is {said}", markup=False)
    _show_details(service)


def _show_details(service: Json) -> None:
    """What is to be known of single instances."""
    for item in service["instances"]:
        if item["state"] in ("unready", "failed", "starting") and item["detail"]:
            out().print(f"{item['id']}: {styled(item['state'])}: {escape(item['detail'])}")
        if item.get("volume"):
            out().print(f"{item['id']}: its volume {item['volume']}", markup=False)


def _trouble(name: str, service: Json) -> str:
    """What does not come up, how often in a row, and where its words are."""
    often = service["start_failures"]
    again = f" ({often} times in a row)" if often > 1 else ""
    look = f"; see: volery logs {name}" if often else ""
    if service["release"] is None:
        look = f"; see: volery rollout {name}"
    return f"{service['trouble']}{again}{look}"


def show_service(name: str, status: Json) -> None:
    """One service with its instances."""
    service = status["services"][name]
    console = out()
    console.print(f"[bold]{name}[/] {styled(service['state'])}  {service['release'] or ''}")
    roles = service["primary"] is not None
    shown = table(
        "INSTANCE",
        "ROLE" if roles else "TRACK",
        "STATE",
        "PID",
        "ADDRESS",
        "RESTARTS",
        "AGE",
        "LIMITS",
        fold=["LIMITS"],
    )
    for item in service["instances"]:
        limits = ", ".join(f"{key}: {value}" for key, value in sorted(item["limits"].items()))
        shown.add_row(
            item["id"],
            (item["role"] or "unknown") if roles else item["track"],
            styled(item["state"]),
            str(item["pid"] or "-"),
            item["address"] or "-",
            str(item["restarts"]),
            age(item["started_at"]),
            limits,
        )
    if service["instances"]:
        print_table(shown)
    if roles:
        console.print(escape(_primary(service["primary"])))
    _show_trouble(name, service)
    show_waiting(service["waiting"])
    show_brakes([item for item in status["guard"]["brakes"] if item["service"] in (None, name)])


def _primary(primary: Json) -> str:
    """Who it is, and what is under way."""
    handover = primary["handover"] if primary["changing"] else None
    said = f"{primary['instance']} is the primary in term {primary['term']}"
    if handover:
        said += f"; {handover['kind']}: {handover['step']}"
    waits = primary["waits"] or (handover and handover["waits"])
    return f"{said}: {waits}" if waits else said


def rollout_line(rollout: Json) -> str:
    """A rollout in one line."""
    origin = f"{rollout['from']} -> " if rollout["from"] else ""
    text = f"{rollout['id']} {origin}{rollout['to']} {styled(rollout['phase'])}"
    if rollout["steps"] > 1 or rollout["weight"]:
        text += f" step {rollout['step']}/{rollout['steps']}, {rollout['weight']:g} % of requests"
    return text + (f": {escape(rollout['reason'])}" if rollout["reason"] else "")


def show_releases(document: Json) -> None:
    """Releases, newest first."""
    shown = table("RELEASE", "STATE", "AGE", "BY", "REASON", fold=["REASON"])
    for item in document["releases"]:
        shown.add_row(
            item["release"],
            styled(item["state"]),
            age(item["created_at"]),
            item["by"],
            escape(item["reason"]),
        )
    print_table(shown)


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
