"""The recipe `examples/redis-ha`, run by Volery."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.recipe import Cluster as AnyCluster
from benchmarks.recipe import Recipe, installed, running


def missing() -> str:
    """Why it cannot run here, for people; "" if it can."""
    there = installed("redis-server", lambda: shutil.which("redis-server") is not None)
    return "" if there else "there is no Redis here: apt-get install redis-server"


class Cluster(AnyCluster):
    """One Redis cluster under Volery."""

    recipe = Recipe("redis-ha", "sessions", "sessions-db", "redis.conf")


def cluster(root: Path) -> AbstractContextManager[Cluster]:
    """A cluster of three that is up while the block lasts."""
    return running(Cluster(root))
