"""Moments in JSON: RFC 3339 UTC, as the contract wants them."""

from __future__ import annotations

from datetime import UTC, datetime


def time(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 UTC."""
    if not seconds:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
