"""What a lint finds: an opinion, where it stands, and how it is worded. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from volery.manifest.mistake import Path, dotted
from volery.model.units import format_duration


@dataclass(frozen=True)
class Finding:
    """One opinion: where, and what about it."""

    severity: Literal["warning", "note"]
    at: Path
    message: str

    @property
    def path(self) -> str:
        """Where, as a person would search for it."""
        return dotted(self.at)


def warning(path: Path, message: str) -> Finding:
    """A policy that will not do what its author expects."""
    return Finding("warning", path, message)


def shorter(seconds: float, others: float) -> bool:
    """By more than sums of binary fractions are off."""
    return seconds < others - 1e-6


def time_text(seconds: float) -> str:
    """A duration as the manifest writes it."""
    return format_duration(seconds)
