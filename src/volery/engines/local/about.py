"""What the engine notes with an instance, so that the next control plane knows it again.

No secret is among it: of secret variables only the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from volery.model.application import Health
from volery.model.ports import InstanceSpec

Protocol = Literal["http", "http2", "grpc", "tcp"]


@dataclass(frozen=True)
class About:
    """The lasting facts of an instance."""

    service: str
    protocol: Protocol
    directory: str
    health: Health
    grace: float
    port: int | None = None
    secret_names: tuple[str, ...] = ()
    role: tuple[str, ...] | None = None
    volume: str = ""
    volume_identity: str = ""
    """Which folder that was when it started."""
    volume_made: bool = False
    """Whether it was made for this start."""

    @classmethod
    def of(cls, spec: InstanceSpec) -> About:
        """From what shall be started."""
        names = [name for name, value in spec.environment.items() if value in spec.secrets]
        return cls(
            service=spec.service,
            protocol=spec.protocol,
            directory=spec.directory,
            health=spec.health,
            grace=spec.stop.grace,
            secret_names=tuple(names),
            role=spec.role,
            volume=spec.volume or "",
        )

    def as_json(self) -> dict[str, Any]:
        """For spec.json."""
        return {**vars(self), "health": self.health.model_dump(mode="json")}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> About:
        """From spec.json, also one of another version."""
        return cls(
            service=str(document.get("service", "unknown")),
            protocol=cast(Protocol, document.get("protocol", "tcp")),
            directory=str(document.get("directory", "/")),
            health=Health.model_validate(document.get("health", {}), extra="ignore"),
            grace=float(document.get("grace", 10.0)),
            port=document.get("port"),
            secret_names=tuple(document.get("secret_names", ())),
            role=tuple(document["role"]) if document.get("role") else None,
            volume=str(document.get("volume", "")),
            volume_identity=str(document.get("volume_identity", "")),
            volume_made=bool(document.get("volume_made", False)),
        )
