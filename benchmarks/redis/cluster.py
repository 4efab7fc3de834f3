"""The recipe `examples/redis-ha`, run by Volery."""

from __future__ import annotations

import shutil

from benchmarks.recipe import Cluster as AnyCluster
from benchmarks.recipe import Recipe, installed


def missing() -> str:
    """Why it cannot run here, for people; "" if it can."""
    there = installed("redis-server", lambda: shutil.which("redis-server") is not None)
    return "" if there else "there is no Redis here: apt-get install redis-server"


class Cluster(AnyCluster):
    """One Redis cluster under Volery."""

    recipe = Recipe("redis-ha", "sessions", "sessions-db", "redis.conf")
