"""How long to wait before trying again: exponential, capped, with jitter that is no randomness.

The jitter is made from a name and a count, so that decisions stay pure and a history replays, and
yet no two releases and no two services try in step.
"""

from __future__ import annotations

from hashlib import sha256


def share(name: str) -> float:
    """A number from 0 to 1 that this name always gives."""
    return int.from_bytes(sha256(name.encode()).digest()[:4]) / 2**32


def wait(name: str, failures: int, first: float, cap: float) -> float:
    """Seconds to wait after so many failures in a row: none after the first, then `first` doubling
    to `cap`, of each a half to the whole."""
    if failures <= 1:
        return 0.0
    longest = min(cap, first * 2.0 ** min(failures - 2, 30))
    return longest * (0.5 + share(f"{name} {failures}") / 2)
