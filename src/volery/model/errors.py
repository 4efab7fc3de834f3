"""One error type for everything a person may be told.

An expected failure of a deploy is a *result* (a rollout's phase and reason), not an exception.
What cannot be answered at all raises `VoleryError`, whose code decides the exit status and HTTP
status in one table.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why something was not done. The table `EXIT` and `HTTP` map it for shells and for HTTP."""

    FAILED = "failed"
    INVALID = "invalid"
    ROLLED_BACK = "rolled_back"
    WEAKNESS = "weakness"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"
    NO_CONTROL_PLANE = "no_control_plane"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"


EXIT: dict[Code, int] = {
    Code.FAILED: 1,
    Code.CONFLICT: 1,
    Code.INVALID: 2,
    Code.NOT_FOUND: 2,
    Code.ROLLED_BACK: 3,
    Code.WEAKNESS: 4,
    Code.INCONCLUSIVE: 5,
    Code.REFUSED: 6,
    Code.NO_CONTROL_PLANE: 7,
}

HTTP: dict[Code, int] = {
    Code.FAILED: 500,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.INVALID: 422,
    Code.ROLLED_BACK: 409,
    Code.WEAKNESS: 409,
    Code.INCONCLUSIVE: 409,
    Code.REFUSED: 403,
    Code.NO_CONTROL_PLANE: 503,
}


class VoleryError(Exception):
    """Something that cannot be done, told in one line.

    Args:
        message: what is wrong, naming the thing and the value seen.
        code: why, deciding exit code and HTTP status.
        hint: what to do about it, as a line that can be pasted where possible.
        where: file, line, command or object it concerns.
    """

    def __init__(
        self, message: str, *, code: Code = Code.FAILED, hint: str = "", where: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.where = where

    def as_json(self) -> dict[str, str]:
        """The error object of the contract: code, message, hint, where."""
        return {
            "code": self.code.value,
            "message": self.message,
            "hint": self.hint,
            "where": self.where,
        }
