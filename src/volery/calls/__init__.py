"""The one place from which other people's servers are asked: hooks, Prometheus, registries, APIs.

Every such request has a total deadline, waits for its turn in the account's rate limit, obeys what
the server said about coming back later, and is tried again only where that can do no harm and the
account's retry budget allows it. Limits are shared by all processes on this machine through a small
file for each account. Our own instances, sockets and data plane are not asked from here: they count
for no account.
"""

from volery.calls.caller import Calls, Settings
from volery.calls.exchange import NoReply, Reply, Request

__all__ = ["Calls", "NoReply", "Reply", "Request", "Settings"]
