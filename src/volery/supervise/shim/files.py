"""Small files: replaced durably, or read without fuss."""

# Importing pathlib would cost a third of the time to start.
# ruff: noqa: PTH104, PTH108, PTH120, PTH123
from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # typing would cost as much
if TYPE_CHECKING:
    from typing import Any


def write_durably(name: str, document: object) -> None:
    """Replace a JSON file so that a crash at any moment leaves the old or the new one, on disk."""
    replace(name, document, on_disk=True)
    folder = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace(name: str, document: object, on_disk: bool = False) -> None:
    """Replace a JSON file so that whoever reads it, and whoever is killed, finds the old or the new
    one. Only after a power cut it may be torn, unless it had to be `on_disk`."""
    temporary = name + ".tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, json.dumps(document).encode())
        if on_disk:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name)


def overwrite(name: str, document: object) -> None:
    """Write a JSON file in place: on a full disk its blocks are still ours."""
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        content = json.dumps(document).encode()
        _write_all(fd, content)
        os.ftruncate(fd, len(content))
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def read_document(name: str) -> dict[str, Any] | None:
    """A JSON object, or None if it is missing or torn."""
    try:
        with open(name, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def unlink(name: str) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(name)
    except FileNotFoundError:
        return


def read_text(path: str) -> str:
    """A small file of the kernel, "" if it is not there."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
