"""The lab, cleaned up after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.engine.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    found = Lab(tmp_path / "home", tmp_path / "work")
    found.work.mkdir()
    yield found
    found.end()
