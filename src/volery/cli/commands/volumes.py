"""volumes: what stateful services keep, and what was deleted and can still be restored."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from volery.cli.session import Given, Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from volery.control.volumes import Deed
    from volery.store.volumes import Volume, Volumes

LOCK_SECONDS = 3.0
"""A control plane that ends has it for a moment, and so has another `down --volumes`."""


def of_session(session: Session) -> Volumes:
    """The volumes of the environment; what expired is gone. If it cannot be destroyed, that is said
    and keeps nobody from looking at the others. Where a control plane runs it is what destroys."""
    from volery.api.launch import is_in_use
    from volery.model.errors import VoleryError
    from volery.store.volumes import Volumes

    found = Volumes(session.home.volumes, session.home.trash)
    try:
        tell(session, "expired", found.empty(time.time()))
        if not is_in_use(session.home):
            found.finish()
    except VoleryError as error:
        print(f"warning: {error.message}; {error.hint}", file=sys.stderr)
    return found


def tell(session: Session, deed: Deed, volumes: Iterable[Volume]) -> None:
    """Write into the ledger what was done with volumes, and who did it."""
    names = {item.exact: item.expires_at for item in volumes}
    if not names:
        return
    from volery.api.launch import is_in_use

    if is_in_use(session.home):
        body = {"deed": deed, "volumes": names, "by": session.by}
        session.client.post("/v1/volumes", body)
    else:
        from volery.api.told import tell_the_file

        tell_the_file(session.home, deed, names, session.by)


def delete_all(session: Session, keep: float) -> list[Volume]:
    """Move all volumes of an environment that is stopped to the trash, and write that down. Nobody
    can bring it up meanwhile: a control plane waits for its lock.

    Raises:
        VoleryError: CONFLICT, somebody has brought it up; nothing is deleted. Or one of them cannot
            be moved; the others are deleted. Or one that is not to be kept cannot be destroyed.
    """
    from volery.api.launch import has_instances
    from volery.api.told import tell_the_file
    from volery.model.errors import Code, VoleryError
    from volery.store.files import hold
    from volery.store.volumes import PartlyDeleted, Volumes

    home, there = session.home, Volumes(session.home.volumes, session.home.trash)
    if not home.path.exists():
        return []
    meanwhile = "it was brought up meanwhile; no volume is deleted"
    lock = hold(home.lock, LOCK_SECONDS, meanwhile)
    try:
        if has_instances(home):
            raise VoleryError(meanwhile, code=Code.CONFLICT, hint="volery status")
        failed: VoleryError | None = None
        try:
            deleted = there.delete(time.time(), keep)
        except PartlyDeleted as error:
            failed, deleted = error, error.moved
        names = {item.exact: item.expires_at for item in deleted}
        # Said also where none was left: whoever deleted them before may have been killed first.
        tell_the_file(home, "deleted", names, session.by, whole=failed is None)
        if failed:
            raise failed
    finally:
        os.close(lock)
    if not keep:
        there.finish()
    of_session(session)
    return deleted


def list_(*, session: Given) -> int:
    """List volumes: live ones, and deleted ones with the time until which they can be restored."""
    there = of_session(session)
    found = [*there.all_live(), *there.deleted()]
    if session.json:
        session.emit({"volumes": [_as_json(item) for item in found]})
        return 0
    from volery.cli.show.guard import show_volumes

    show_volumes([_as_json(item) for item in found])
    return 0


def restore_(name: str, /, *, session: Given) -> int:
    """Bring a deleted volume back to where its service looks for it.

    Args:
        name: As `volery volumes` names it, such as orders-db/data-0.
    """
    restored = of_session(session).restore(name, lambda it: tell(session, "restored", [it]))
    if session.json:
        session.emit(_as_json(restored))
    else:
        print(f"{restored.name} is back in {restored.path}")
    return 0


def purge_(name: str | None = None, /, *, session: Given) -> int:
    """Destroy a deleted volume for good, or all of them.

    Args:
        name: Only this one, as `volery volumes` names it.
    """
    there = of_session(session)
    what = "every deleted volume" if name is None else f"the deleted volume {name}"
    chosen = there.chosen(name)
    radius = [f"{item.exact}: {item.size()} bytes" for item in chosen]
    session.confirm(f"destroy {what} for good", radius)
    # Said first: if that fails, or whoever types this is killed, it can be asked for again.
    tell(session, "purged", chosen)
    there.purge(chosen)
    if session.json:
        session.emit({"purged": [item.exact for item in chosen]})
    else:
        print("\n".join(f"{item.exact} is destroyed" for item in chosen) or "the trash is empty")
    return 0


def _as_json(item: Volume) -> dict[str, object]:
    from volery.model.moment import time as moment

    return {
        "name": item.exact,
        "service": item.service,
        "state": "live" if item.deleted_at is None else "deleted",
        "path": str(item.path),
        "bytes": item.size(),
        "deleted_at": moment(item.deleted_at),
        "expires_at": moment(item.expires_at),
    }
