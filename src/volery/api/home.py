"""Where everything of one environment lives: `$VOLERY_HOME/<app>/<environment>/`, mode 0700."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from volery.model.errors import Code, VoleryError


def root() -> Path:
    """`$VOLERY_HOME`, by default `~/.volery`."""
    return Path(os.environ.get("VOLERY_HOME") or "~/.volery").expanduser().absolute()


@dataclass(frozen=True)
class Home:
    """The folder of one environment and the names of what is in it."""

    path: Path

    @classmethod
    def of(cls, app: str, environment: str) -> Home:
        """The home of an environment of an application."""
        return cls(root() / app / environment)

    @property
    def accounts(self) -> Path:
        """What all environments together may still ask of servers of others."""
        return self.path.parent.parent / ".accounts"

    @property
    def never_source(self) -> tuple[Path, ...]:
        """Folders that no artifact may hold, also where `$VOLERY_HOME` lies in a source, or is one:
        what any environment keeps, above all its secrets and their key."""
        return (self.path.parent.parent, self.path.parent, self.accounts)

    @property
    def socket(self) -> Path:
        """Where the API listens."""
        return self.path / "api.sock"

    @property
    def lock(self) -> Path:
        """Held by the one control plane of this environment."""
        return self.path / "control.lock"

    @property
    def ledger(self) -> Path:
        """The SQLite ledger."""
        return self.path / "ledger.db"

    @property
    def secrets(self) -> Path:
        """Encrypted secrets and their key."""
        return self.path / "secrets"

    @property
    def control(self) -> Path:
        """The control plane's own shim and log."""
        return self.path / "control"

    @property
    def volumes(self) -> Path:
        """What stateful services keep."""
        return self.path / "volumes"

    @property
    def trash(self) -> Path:
        """Deleted volumes that can still be restored."""
        return self.path / "trash"

    def require_access(self) -> None:
        """Whether this user may look at what is there already.

        Raises:
            VoleryError: REFUSED, another user keeps it, or its rights were changed.
        """
        for folder in (*reversed(self.path.parents), self.path):
            if not folder.exists():
                return
            if not os.access(folder, os.X_OK):
                name = _name_of(folder.stat().st_uid)
                raise VoleryError(
                    f"{folder} may not be entered: it belongs to {name}",
                    code=Code.REFUSED,
                    hint=f"type it as {name}, or set VOLERY_HOME to a folder of your own",
                )

    def create(self) -> None:
        """Make the folder.

        Raises:
            VoleryError: it cannot be made or written.
        """
        try:
            for folder in (self.path.parent.parent, self.path.parent, self.path):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.chmod(0o700)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise VoleryError(
                f"cannot write {self.path}: {error.strerror}",
                hint="set VOLERY_HOME to a folder that can be written",
            ) from None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
