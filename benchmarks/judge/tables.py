"""The results as tables and plots in the documentation; nothing is measured here.

Tables stand in docs/benchmarks-judge.md between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.judge import starts
from benchmarks.svg import Axis, Line, plot
from volery.control.evidence import LINES_SECONDS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks-judge.md"
PLOTS = ROOT / "docs" / "plots"
OURS = "Volery"
Row = dict[str, Any]
HONEST = ("Kayenta every 5 min", "Mann-Whitney, tuned", "fixed limit, tuned")
"""The peers with about as few false aborts in real traffic: what speed is compared with."""
RULES = (
    OURS,
    "Flagger 60 s x5",
    "Flagger 10 s x5",
    "Argo 99 %, 1 min",
    "Kayenta once at 1 h",
    "Kayenta every 5 min",
    "published sequential",
    "likelihood ratio, iid",
    "z-test, continuously",
)
QUICK_RULES = (
    OURS,
    "with allowance",
    "Flagger 60 s x5",
    "Flagger 10 s x5",
    "Argo 99 %, 1 min",
    "Kayenta every 5 min",
    "published sequential",
)
SAID = {
    "clean": "independent requests",
    "bursts": "bursts that hit both",
    "clumped": "failures and stalls in clumps",
    "differ": "instances differ a little",
    "real": "all of these and drift",
    "cold": "canary cold at first",
    "cold x2": "... twice as cold",
    "cold, real": "cold, and all of these",
    "cold, same age": "cold, baseline as cold",
    "cold x2, same age": "... twice as cold",
}


def write(results: Sequence[Row]) -> None:
    """Put all tables there are results for into the page, and draw the plots."""
    text = PAGE.read_text()
    for name, table in TABLES.items():
        rows = [row for row in results if row["kind"] == name.split(" ")[0]]
        if rows:
            text = _between(text, name, table(rows))
    PAGE.write_text(text)
    PLOTS.mkdir(exist_ok=True)
    _curves([row for row in results if row["kind"] == "bad"])
    _scores([row for row in results if row["kind"] == "plots"])


def _between(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{table}\n{end}", text)


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _healthy(rows: Sequence[Row]) -> str:
    body = []
    for environment, said in SAID.items():
        found = sorted(
            (row for row in rows if row["environment"] == environment),
            key=lambda row: str(row["config"]),
        )
        if not found:
            continue
        configs = " / ".join(row["config"] for row in found)
        cells = [_shares([row["aborted"].get(rule) for row in found]) for rule in RULES]
        body.append([said, configs, f"**{cells[0]}**", *cells[1:]])
    runs = rows[0]["runs"]
    note = f"\n\n{runs} rollouts of an hour for each configuration; percent taken back wrongly."
    return _table(["traffic", "config", f"**{OURS}**", *RULES[1:]], body) + note


def _shares(shares: Sequence[float | None]) -> str:
    return " / ".join("-" if share is None else f"{share * 100:.3g}" for share in shares)


def _without(rows: Sequence[Row]) -> str:
    found = [row for row in rows if "no allowance" in row["aborted"]]
    body = [
        [
            SAID[row["environment"]],
            row["config"],
            _shares([row["aborted"][OURS]]),
            _shares([row["aborted"]["no allowance"]]),
        ]
        for row in found
    ]
    return _table(["traffic", "config", "with the allowance", "without"], body)


def _seconds(summary: Row | None) -> str:
    if summary is None:
        return "-"
    median, late = (
        "-" if summary[name] is None else f"{summary[name]:,.0f}" for name in ("median", "p95")
    )
    return "-" if median == "-" else f"{median} / {late}"


def _bad(environment: str, rules: Sequence[str], cell: Callable[[Row], str]) -> Any:
    def table(rows: Sequence[Row]) -> str:
        found = [row for row in rows if row["environment"] == environment]
        body = [
            [
                row["config"],
                row["regression"],
                *(cell(row["rules"].get(rule)) for rule in rules),
            ]
            for row in found
        ]
        for line in body:
            line[2] = f"**{line[2]}**"
        note = (
            f"\n\n{found[0]['runs']} rollouts for each row, watched for"
            f" {found[0]['seconds']:,.0f} s."
            if found
            else ""
        )
        return _table(["config", "what is wrong", *rules], body) + note

    return table


def _harmed(summary: Row | None) -> str:
    return "-" if summary is None else _short(summary["harmed"])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _ratios(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        peers = {name: row["rules"][name] for name in HONEST if name in row["rules"]}
        if row["environment"] != "real" or not peers:
            continue
        ours = row["rules"][OURS]
        quick = min(_median(peer, row) for peer in peers.values())
        kind = min(peer["harmed"] for peer in peers.values())
        late = all(peer["median"] is None for peer in peers.values())
        body.append(
            [
                row["config"],
                row["regression"],
                f"{'more than ' if late else ''}{_short(quick / _median(ours, row))}",
                _short(kind / ours["harmed"]),
            ]
        )
    return _table(["config", "what is wrong", "times faster", "times fewer harmed"], body)


def _median(summary: Row, row: Row) -> float:
    return float(summary["median"] or row["seconds"])


def _promotion(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        body += [
            [
                row["service"],
                f"{step['weight']:.0%}".replace("%", " %"),
                _seconds(step),
                f"{step['margin'] * 100:.2g} %",
                f"{step['wrong'] * 100:.3g}",
                f"{step['slipped'] * 100:.3g}",
            ]
            for step in row["steps"]
        ]
        total = sum(step["median"] or 600 for step in row["steps"])
        body.append([row["service"], "**all**", f"**{total:,.0f}**", "", "", ""])
    head = ["service", "step", "median / p95 s", "margin", "vouched for, %", "... not aborted, %"]
    return _table(head, body) + f"\n\n{rows[0]['runs']} rollouts for each step."


def _cost(rows: Sequence[Row]) -> str:
    body = []
    for name, cost in rows[0]["ticks"].items():
        look, verdict, lines = (cost[part] for part in ("look", "judge", "lines"))
        second = look + verdict + lines / LINES_SECONDS
        each = second / cost["comparisons"]
        row = [name, *(f"{one:.0f}" for one in (look, verdict, lines, each))]
        body.append([*row, f"{second / 10:.0f} %"])
    head = ["requests in the tick", "look, us", "verdict, us", "lines, us"]
    head += ["per comparison, us", "1,000 rollouts"]
    return _table(head, body)


RULES_OF_STARTS = (starts.BEFORE, starts.AFTER, starts.NOTHING)


def _starts_good(rows: Sequence[Row]) -> str:
    found = [row for row in rows if "case" in row]
    body = []
    for case in dict.fromkeys(row["case"] for row in found):
        mine = [row for row in found if row["case"] == case]
        shares = [_shares([row["aborted"][rule] for row in mine]) for rule in RULES_OF_STARTS]
        body.append([case, " / ".join(row["config"] for row in mine), *shares])
    note = (
        f"\n\n{found[0]['runs']} rollouts for each number, watched for"
        f" {found[0]['seconds']:g} s; percent taken back wrongly."
    )
    return _table(["old and new release", "requests", *RULES_OF_STARTS], body) + note


def _starts_bad(rows: Sequence[Row]) -> str:
    found = [row for row in rows if "regression" in row]
    body = [
        [row["regression"], *(_seconds(row["rules"][rule]) for rule in RULES_OF_STARTS)]
        for row in found
    ]
    return _table(["what is wrong", *RULES_OF_STARTS], body) + (
        f"\n\n{found[0]['runs']} rollouts for each row, median / 95th percentile of seconds."
    )


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "healthy": _healthy,
    "healthy cold": _without,
    "bad clean": _bad("clean", QUICK_RULES, _seconds),
    "bad harmed": _bad("clean", QUICK_RULES, _harmed),
    "bad real": _bad("real", (OURS, f"{OURS}, tuned", *HONEST), _seconds),
    "bad real harmed": _bad("real", (OURS, f"{OURS}, tuned", *HONEST), _harmed),
    "bad ratios": _ratios,
    "starts good": _starts_good,
    "starts bad": _starts_bad,
    "promotion": _promotion,
    "cost": _cost,
}


def _curves(rows: Sequence[Row]) -> None:
    """How many of the bad releases are caught by when: one picture for each regression."""
    for row in rows:
        if row["environment"] != "real" or row["config"] not in "BC":
            continue
        lines = []
        for name in (OURS, "fixed limit, tuned", "Mann-Whitney, tuned", "Kayenta every 5 min"):
            if name in row["rules"]:
                times = row["rules"][name]["times"]
                points = [(t, 5.0 * i) for i, t in enumerate(times, 1) if t is not None]
                end = [(row["seconds"], points[-1][1])] if points else []
                lines.append(Line(name, [*points, *end], 2.4 if name == OURS else 1.6))
        text = plot(
            f"{row['config']}, real traffic: {row['regression']}",
            Axis("seconds since the release is bad", 1, row["seconds"], (1, 10, 100, 1000), True),
            Axis("caught, %", 0, 100, (0, 25, 50, 75, 100)),
            lines,
        )
        name = re.sub(r"[^a-z0-9]+", "-", f"{row['config']} {row['regression']}".lower())
        (PLOTS / f"judge-caught-{name.strip('-')}.svg").write_text(text)


def _scores(rows: Sequence[Row]) -> None:
    """The evidence against a good and several bad releases over time."""
    for row in rows:
        lines = []
        for name, scores in row["scores"].items():
            points = [(t, 100.0 ** min(s, 1.5)) for t, s in enumerate(scores, 1)]
            stop = next((i for i, (_, odds) in enumerate(points, 1) if odds >= 100), len(points))
            lines.append(Line(name, points[:stop]))
        seconds = len(next(iter(row["scores"].values())))
        limit = Line("taken back", [(0, 100), (seconds, 100)], 1.0, dashed=True)
        text = plot(
            "Evidence against a release: 100 requests/s, 5 % canary, real traffic",
            Axis("seconds", 0, seconds, range(0, seconds + 1, 60)),
            Axis("odds against, :1", 0.1, 1000, (0.1, 1, 10, 100, 1000), True),
            [*lines, limit],
        )
        (PLOTS / "judge-evidence.svg").write_text(text)
