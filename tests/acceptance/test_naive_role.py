"""A role command that reads a file which outlives the process: what becomes of it, the way out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.project import Project, until
from acceptance.replicated.bench import settled, stateful, store

ROLE = 'cat "$VOLERY_VOLUME/role" 2>/dev/null || echo $VOLERY_ROLE\n'
PROMOTE = 'python3 -S store.py promote && echo primary > "$VOLERY_VOLUME/role"\n'


def naive(project: Project) -> None:
    """A store whose former primary goes on to say that it is the primary."""
    stateful(project, role="sh role.sh", switchover="sh promote.sh")
    (project.folder / "store" / "role.sh").write_text(ROLE)
    (project.folder / "store" / "promote.sh").write_text(PROMOTE)
    project.ok("up")
    project.ok("switchover", "store", "--to", "store-1")
    until(lambda: settled(project), "everything is whole again")
    project.ok("switchover", "store", "--to", "store-0")


def events(project: Project, kind: str) -> list[Any]:
    lines = project.ok("--output", "json", "events", "store").out.splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
def test_it_is_killed_ever_more_seldom_and_a_mended_release_takes_its_place(
    project: Project, strategy: str
) -> None:
    naive(project)
    until(lambda: store(project)["restarts"] >= 4, "it was killed four times")
    killed = [
        event
        for event in events(project, "instance.stopping")
        if "claims to be the primary" in event["text"]
    ]
    told = [event["data"]["times"] for event in events(project, "state.impostor")]
    assert told == [times for times in (1, 2, 4, 8) if times <= len(killed)]
    said = project.ok("status").out
    assert "store-1 was killed" in said and "keep-data.md" in said
    assert "its role command says primary, though store-0 is" in said
    refused = project.volery("restart", "store")
    assert refused.code == 3 and "its role command says primary" in refused.err, refused.text

    stateful(project)
    project.ok("deploy", "store", "--strategy", strategy)
    until(lambda: settled(project), "everything is whole")
    assert store(project)["trouble"] is None


def test_the_example_of_the_docs_changes_its_primary_and_nobody_claims(project: Project) -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "keep-data.md"
    section = page.read_text().partition("## A primary and its replicas")[2]
    manifest, program = re.findall(r"```(?:yaml|python)\n(.*?)```", section, re.DOTALL)[:2]
    (project.folder / "db").mkdir()
    (project.folder / "db" / "db.py").write_text(program)
    project.manifest["services"] = yaml.safe_load(manifest)["services"]
    project.write()
    project.ok("up")
    project.ok("switchover", "orders-db", "--to", "orders-db-1")
    until(lambda: roles(project) == ["primary", "replica", "replica"], "everything is whole again")
    assert "state.impostor" not in project.ok("events").out


def roles(project: Project) -> list[str]:
    there = project.status()["services"]["orders-db"]["instances"]
    return sorted(item["role"] or "unknown" for item in there)
