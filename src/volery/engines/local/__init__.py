"""Runs instances as processes of this machine.

Each is supervised by a shim of its own that outlives the control plane.
"""

from volery.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
