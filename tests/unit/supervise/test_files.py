"""A file is the old one or the new one, whether the disk is waited for or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from volery.supervise.shim.files import read_document, replace, write_durably


@pytest.mark.parametrize("write", [replace, write_durably])
def test_a_document_is_replaced_as_a_whole(
    tmp_path: Path, write: Callable[[str, object], None]
) -> None:
    name = str(tmp_path / "state.json")
    write(name, {"child": 1})
    with open(name) as reading:  # noqa: PTH123
        write(name, {"child": 2})
        assert reading.read() == '{"child": 1}'
    assert read_document(name) == {"child": 2}
    assert os.listdir(tmp_path) == ["state.json"]  # noqa: PTH208


@pytest.mark.parametrize(("write", "waits"), [(replace, 0), (write_durably, 2)])
def test_only_one_of_them_waits_for_the_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[str, object], None],
    waits: int,
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    write(str(tmp_path / "state.json"), {})
    assert len(waited) == waits
