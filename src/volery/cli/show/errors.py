"""One line for what is wrong, one for what to do; or the contract's error object."""

from __future__ import annotations

import json
import sys

from volery.model.errors import VoleryError


def show_error(error: VoleryError, as_json: bool) -> None:
    """Print an error on stderr."""
    mistakes = getattr(error, "mistakes", ())
    if as_json:
        more = {"mistakes": [str(item) for item in mistakes]} if mistakes else {}
        print(json.dumps({"error": error.as_json() | more}), file=sys.stderr)
        return
    for mistake in mistakes:
        print(str(mistake), file=sys.stderr)
    if not mistakes:
        where = f" ({error.where})" if error.where else ""
        print(f"error: {error.message}{where}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
