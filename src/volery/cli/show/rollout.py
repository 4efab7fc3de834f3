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
MANY = 1e6
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
        ("Needed" if rollout["phase"] == "analysing" else "Because", escape(rollout["reason"])),
        ("Took", _took(rollout)),
    ]
    for name, value in rows:
        if value:
            table.add_row(f"{name}:", value)
    return table


def _step(rollout: Json) -> str:
    if rollout["step"] == 0 and not rollout["weight"]:
        return ""
    text = f"{rollout['step']}/{rollout['steps']}, {rollout['weight']:g} % of requests"
    left = rollout["steps"] - rollout["passed"]
    return text + (f", {rollout['passed']} passed" if rollout["passed"] and left else "")


def _took(rollout: Json) -> str:
    spent = {key: value for key, value in rollout["seconds"].items() if value}
    words = {"shift": "with users"}
    return ", ".join(f"{words.get(k, k)} {format_duration(v)}" for k, v in spent.items())


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
    """A line for each metric; narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("EVIDENCE")
    table.add_column("AGAINST", no_wrap=True, justify="right")
    table.add_column("FOR", no_wrap=True, justify="right")
    for line in lines:
        mark, style = MARKS[line["state"]]
        only_against = line["needed"] <= 1 and line["state"] == "undecided"
        table.add_row(
            "" if only_against else f"[{style}]{mark}[/]",
            escape(line["text"].partition(", evidence ")[0]),
            odds(line["evidence"]) if line["n"] else "",
            f"{odds(line['confidence'])} of {line['needed']:g}" if line["needed"] > 1 else "",
        )
    return Group(table, Text("   odds to one: 100 against it take a release back", style="dim"))


def odds(value: float) -> str:
    """Odds to one, short: `3,200`, `0.15`, `>1M`."""
    if value > MANY:
        return ">1M"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def decision_line(decision: Json) -> str:
    """One decision of a replay, and what was done then if that was something else."""
    same = decision["taken"] == decision["verdict"]
    done = "" if same else f" (what was done: {decision['taken']})"
    return (
        f"{decision['after']:8.1f}s  step {decision['step']}, {decision['weight']:g} %"
        f"  {decision['verdict']:12} {decision['reason']}{done}"
    )
