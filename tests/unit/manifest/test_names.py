"""The names that lead to an environment's home, also of a manifest that is being edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from volery.cli.session import Session
from volery.manifest.names import Names, names

WHOLE = """# tea
app: tea
environments:
  dev: {}
# where users are
  eu: {production: true}
services:
  web:
    run: serve
"""
CONFLICT = "<<<<<<< HEAD\n    port: 1\n=======\n    port: 2\n>>>>>>> theirs\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "volery.yaml"


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE + "    env: a: b\n",
        WHOLE + '    run: "serve\n',
        WHOLE + CONFLICT,
        CONFLICT + WHOLE,
        "\ufeff" + WHOLE + "foo\n",
        WHOLE.replace("\n", "\r\n") + "[\r\n",
        "services: [\nenvironments: {dev: {}, eu: {}}\napp: tea\n",
    ],
)
def test_they_are_told_whatever_stands_beside_them(manifest: Path, text: str) -> None:
    manifest.write_text(text, newline="")
    assert names(manifest) == Names("tea", ("dev", "eu"))


@pytest.mark.parametrize(
    "text",
    [
        "app: tea\napp: coffee\nfoo\n",
        "app: te: a\n",
        "app: tea\nenvironments:\n<<<<<<< HEAD\n  dev: {}\n=======\n  eu: {}\n>>>>>>> theirs\n",
        "app: tea\nenvironments: {\nfoo\n",
        "services: [\n",
        "",
        "\x00",
    ],
)
def test_what_may_be_meant_otherwise_is_not_told(manifest: Path, text: str) -> None:
    manifest.write_text(text)
    assert names(manifest) is None


@pytest.mark.parametrize(("name", "asks"), [("dev", False), ("eu", True)])
def test_a_manifest_with_mistakes_still_says_what_is_production(
    manifest: Path, name: str, asks: bool
) -> None:
    manifest.write_text(WHOLE + "    runs: serve\n")
    assert Session(name, manifest, "text", yes=False).is_production is asks


@pytest.mark.parametrize("name", ["dev", "eu"])
def test_one_that_cannot_be_read_may_be_about_production(manifest: Path, name: str) -> None:
    manifest.write_text(WHOLE + "    env: a: b\n")
    session = Session(name, manifest, "text", yes=False)
    assert session.environment == name and session.is_production
