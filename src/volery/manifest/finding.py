"""What a lint finds: an opinion, where it stands, and how it is worded. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from volery.manifest.mistake import Path, dotted
from volery.model.application import Environment, Resources
from volery.model.deploy import Deploy
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


def as_written(finding: Finding, name: str, environment: Environment) -> Finding:
    """The same finding where the manifest says it: in the override, if that is what counts."""
    section, service, field = (*finding.at[:3], "", "", "")[:3]
    override = environment.overrides.get(str(service)) if section == "services" else None
    if override is None or field not in override.model_fields_set:
        return finding
    given, below = getattr(override, str(field)), finding.at[3:4]
    if given is None or (below and not _says(given, below[0])):
        return finding
    return replace(finding, at=("environments", name, "overrides", service, *finding.at[2:]))


def _says(given: object, name: str | int) -> bool:
    """Whether an override says this itself, where it leaves the rest as the service has it."""
    match given:
        case Deploy() | Resources():
            return name in given.model_fields_set
        case dict():
            return name in given
    return True
