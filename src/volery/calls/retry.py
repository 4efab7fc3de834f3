"""Whether one request is worth another try, and how long to wait before it. Pure.

| what happened | tried again |
| --- | --- |
| it never reached the server | always |
| reset, cut off, no HTTP | if it is safe to say twice |
| 429, 502, 503, 504 | if it is safe to say twice |
| any other status, or its time is over | never: it is the answer |

Safe to say twice: an idempotent method (RFC 9110, 9.2.2), or an `Idempotency-Key` that stays the
same (draft-ietf-httpapi-idempotency-key-header). Waits are capped exponential with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from volery.calls.exchange import NoReply, Reply, Request

TRIES = 4
FIRST_SECONDS = 0.25
MOST_SECONDS = 5.0
NOT_NOW = frozenset({429, 502, 503, 504})
WITH_RETRY_AFTER = frozenset({429, 503})
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
KEY_HEADER = "idempotency-key"


def again(request: Request, outcome: Reply | NoReply, tried: int) -> bool:
    """Whether it may be sent once more after so many tries."""
    if tried >= request.tries:
        return False
    if isinstance(outcome, NoReply):
        return not outcome.late and (not outcome.reached or is_safe(request))
    return outcome.status in NOT_NOW and is_safe(request)


def is_safe(request: Request) -> bool:
    """Whether a server that gets it twice does what it asks once."""
    return request.method in IDEMPOTENT or any(
        name.lower() == KEY_HEADER for name in request.headers
    )


def back_off(tried: int, chance: float) -> float:
    """Seconds to wait after so many tries; `chance`: from 0 to 1, the jitter."""
    return chance * min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(tried - 1, 20))


def wanted_rest(status: int, headers: Mapping[str, str], now: float) -> float:
    """Seconds for which a server wants no request; `now` is Unix seconds."""
    return retry_after(headers, now) if status in WITH_RETRY_AFTER else 0.0


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Retry-After (RFC 9110, 10.2.3), seconds or a date; 0 if it is missing or neither."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
