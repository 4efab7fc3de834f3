"""A release's name changes with what runs, and with nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from volery.build.release import release_id
from volery.model.application import RUN_FIELDS, Service

NEUTRAL = {"scale", "deploy", "team", "steady_state", "source", "build_timeout", "test_timeout"}
NEUTRAL |= {"floor", "max_age"}
"""`build` is part of the artifact's digest, `secrets` counts by version."""

BASE: dict[str, Any] = {"run": "python app.py", "secrets": ["B", "A"], "env": {"X": "1", "Y": "2"}}
VERSIONS = {"A": 1, "B": 2, "OTHER": 9}


def name(artifact: str = "ab" * 16, versions: dict[str, int] | None = None, **spec: Any) -> str:
    service = Service.model_validate(BASE | spec)
    return release_id("catalog", artifact, service, versions or VERSIONS)


def test_looks_like_in_the_contract() -> None:
    assert re.fullmatch(r"catalog@[0-9a-f]{8}", name())


def test_stays_the_same_over_versions_of_volery() -> None:
    """A change of this value renames, and so restarts, every service at an upgrade."""
    assert name() == "catalog@6281c838"


def test_every_field_is_decided_about() -> None:
    assert {"build", "secrets"} | RUN_FIELDS | NEUTRAL == set(Service.model_fields)


@pytest.mark.parametrize(
    "same",
    [
        {"scale": 5},
        {"deploy": {"strategy": "canary"}},
        {"team": "web"},
        {"source": "./elsewhere"},
        {"steady_state": {"errors": "< 1%"}},
        {"test_timeout": "1h"},
        {"secrets": ["A", "B"]},
        {"env": {"Y": "2", "X": "1"}},
        {"protocol": "http"},
        {"stop": {"drain": "15s"}},
    ],
    ids=str,
)
def test_what_does_not_run_does_not_count(same: dict[str, Any]) -> None:
    assert name(**same) == name()


@pytest.mark.parametrize(
    "different",
    [
        {"run": "python app.py --debug"},
        {"protocol": "grpc"},
        {"env": {"X": "1"}},
        {"needs": ["db"]},
        {"health": {"ready": "/healthz"}},
        {"resources": {"memory": "1Gi"}},
        {"stop": {"drain": "16s"}},
        {"state": {"volume": "data"}},
        {"test": "pytest"},
        {"secrets": ["A"]},
        {"artifact": "cd" * 16},
        {"versions": VERSIONS | {"A": 2}},
    ],
    ids=str,
)
def test_what_runs_counts(different: dict[str, Any]) -> None:
    assert name(**different) != name()


def test_secrets_of_others_do_not_count() -> None:
    assert name(versions=VERSIONS | {"OTHER": 10}) == name()


def test_service_counts() -> None:
    service = Service.model_validate(BASE)
    ids = {release_id(n, "ab", service, VERSIONS).partition("@")[2] for n in ("a", "b")}
    assert len(ids) == 2
