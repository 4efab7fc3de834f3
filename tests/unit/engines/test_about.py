"""What one version notes with an instance another one can read."""

from __future__ import annotations

from volery.engines.local.about import About
from volery.model.application import Health, Probe


def test_what_a_newer_version_noted_is_left_out() -> None:
    health = {"ready": {"path": "/healthz", "host": "shop.test"}, "every": 2.0, "patience": 3}
    about = About.read({"service": "shop", "health": health, "colour": "red"})
    assert about.service == "shop"
    assert about.health == Health(ready=Probe(path="/healthz"), every=2.0)


def test_what_an_older_version_did_not_note_has_its_default() -> None:
    assert About.read({"service": "shop"}).health == Health()
