"""A command and a control plane of two versions, which may not understand each other."""

from __future__ import annotations

from volery.cli.session import Session
from volery.model.errors import VoleryError

NOT_UNDERSTOOD = "GET /openapi.json"
"""How a hint begins where the API does not know what was sent."""


def of_another_version(error: Exception, session: Session) -> VoleryError | None:
    """What to say instead of an error that comes from this; None if the control plane that was
    asked is of this version, or the error is about something else."""
    if isinstance(error, VoleryError):
        understood = not error.hint.startswith(NOT_UNDERSTOOD)
        said, where = f"does not know what it was asked: {error.message}", error.where
    else:
        understood = isinstance(error, OSError)
        said, where = f"answers in another way: {type(error).__name__} {error}", ""
    if understood or not _asked_another(session):
        return None
    return VoleryError(
        f"the control plane is of another version of Volery and {said}",
        hint="volery up replaces it by this version; what runs goes on",
        where=where,
    )


def _asked_another(session: Session) -> bool:
    """Whether a control plane was asked, and that is of another version."""
    from volery.api.version import code

    if "client" not in session.__dict__:
        return False
    try:
        return session.client.get("/v1/version").get("code") != code()
    except VoleryError:
        return False
