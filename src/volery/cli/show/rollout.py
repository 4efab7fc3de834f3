"""A rollout in full: a header, the tree of its groups and instances, and the evidence by metric."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from volery.cli.show.console import styled
from volery.model.units import format_duration

Json = dict[str, Any]
MARKS = {
    "good": ("✔", "green"),
    "bad": ("✖", "red"),
    "undecided": ("◌", "yellow"),
    "missing": ("◷", "dim"),
}
INSTANCE_MARKS = {"ready": "✔", "starting": "◌", "failed": "✖", "unready": "✖"}


def rollout_view(rollout: Json) -> RenderableType:
    """The whole picture."""
    parts: list[RenderableType] = [_header(rollout)]
    if rollout.get("groups"):
        parts += [Text(), _tree(rollout)]
    if rollout["evidence"]:
        parts += [Text(), _evidence(rollout["evidence"])]
    parts += [Text(f"  | {line}") for line in rollout["log"]]
    return Group(*parts)


def _header(rollout: Json) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    origin = f"{rollout['from']} -> " if rollout["from"] else ""
    rows = [
        ("Rollout", f"[bold]{rollout['id']}[/]  {origin}{rollout['to']}"),
        ("Status", styled(rollout["phase"])),
        ("Strategy", f"{rollout['strategy']} ({rollout['cause']} by {rollout['by'] or 'nobody'})"),
        ("Step", _step(rollout)),
        ("Verdict", rollout["verdict"] or ""),
        ("Because", escape(rollout["reason"])),
        ("Took", _took(rollout)),
    ]
    for name, value in rows:
        if value:
            table.add_row(f"{name}:", value)
    return table


def _step(rollout: Json) -> str:
    if rollout["step"] == 0 and not rollout["weight"]:
        return ""
    return f"{rollout['step']}/{rollout['steps']}, {rollout['weight']:g} % of requests"


def _took(rollout: Json) -> str:
    spent = {key: value for key, value in rollout["seconds"].items() if value}
    return ", ".join(f"{key} {format_duration(value)}" for key, value in spent.items())


def _tree(rollout: Json) -> RenderableType:
    tree = Tree(f"[bold]{rollout['service']}[/]")
    for group in rollout["groups"]:
        copies = f", copies of {group['mirror']:g} %" if group["mirror"] else ""
        branch = tree.add(
            f"{group['track']:8} {group['release']}  {group['weight']:g} % of requests{copies}"
            f"  {group['ready']}/{group['desired']} ready"
        )
        for item in group["instances"]:
            mark = INSTANCE_MARKS.get(item["state"], "◷")
            restarts = f", restarts {item['restarts']}" if item["restarts"] else ""
            branch.add(f"{mark} {item['id']}  {styled(item['state'])}{restarts}")
    return tree


def _evidence(lines: list[Json]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("EVIDENCE", "AGAINST IT", "FOR IT", "NEEDED"):
        table.add_column(name)
    for line in lines:
        mark, style = MARKS[line["state"]]
        table.add_row(
            f"[{style}]{mark}[/]",
            escape(line["text"]),
            odds(line["evidence"]),
            odds(line["confidence"]),
            odds(line["needed"]),
        )
    return table


def odds(value: float) -> str:
    """Odds as people say them: 3200:1."""
    return f"{value:,.0f}:1" if value >= 10 else f"{value:.1f}:1"


def decision_line(decision: Json) -> str:
    """One decision of a replay."""
    return (
        f"{decision['after']:8.1f}s  step {decision['step']}, {decision['weight']:g} %"
        f"  {decision['verdict']:12} {decision['reason']}"
    )
