"""The recipe `examples/postgres-ha`, run by Volery."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.recipe import UP_SECONDS, Recipe, installed, running
from benchmarks.recipe import Cluster as AnyCluster


def missing() -> str:
    """Why it cannot run here, for people; "" if it can."""
    there = installed("postgresql", lambda: any(Path("/usr/lib/postgresql").glob("*/bin/postgres")))
    return "" if there else "there is no PostgreSQL here: apt-get install postgresql"


class Cluster(AnyCluster):
    """One PostgreSQL cluster under Volery."""

    recipe = Recipe("postgres-ha", "orders", "orders-db", "postgresql.conf")

    def restore(self, instance: str) -> subprocess.CompletedProcess[str]:
        """The newest backup into the volume of this instance, with the recipe's own script."""
        return subprocess.run(
            ["./restore.sh", str(self.volume(instance))],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )

    def server(self, instance: str) -> int:
        """The postmaster."""
        return int((self.volume(instance) / "data" / "postmaster.pid").read_text().split("\n")[0])


def cluster(root: Path) -> AbstractContextManager[Cluster]:
    """A cluster of three that is up while the block lasts."""
    return running(Cluster(root))
