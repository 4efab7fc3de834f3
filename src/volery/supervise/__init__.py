"""Processes that outlive us: shims, and the client's side of their folders.

Every shim imports this package, so nothing is imported here before it is needed.
"""

from __future__ import annotations


def enforceable() -> dict[str, str]:
    """What would enforce each limit of an instance here: {"memory": "cgroup v1", ...}."""
    from volery.supervise.limits import try_limits

    return try_limits()
