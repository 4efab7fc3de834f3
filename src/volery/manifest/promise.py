"""A promise (`steady_state`) in one line, as people write it on a command line."""

from __future__ import annotations

from pydantic import ValidationError

from volery.manifest.tree import data
from volery.manifest.yaml12 import compose
from volery.model.application import SteadyState
from volery.model.fields import WRITTEN

CHARACTERS_MAX = 1000


def promise(text: str) -> SteadyState:
    """`errors: < 2%, latency: {p99: < 1s}`, in braces or not, after `steady_state:` or not.

    Raises:
        ValueError: with the first mistake in it.
    """
    inner = text.strip().removeprefix("steady_state:").strip()
    if len(inner) > CHARACTERS_MAX:
        raise ValueError("it is too long")
    whole = inner if inner.startswith("{") else "{" + inner + "}"
    root, mistakes = compose(whole.encode(), "--with")
    if mistakes or root is None:
        raise ValueError(mistakes[0].message if mistakes else "it is empty")
    try:
        found = SteadyState.model_validate(data(root, ()), context=WRITTEN)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
    if found.errors is None and not found.latency:
        raise ValueError("it promises nothing")
    return found
