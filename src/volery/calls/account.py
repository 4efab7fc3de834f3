"""Which account a URL belongs to.

A host with its port comes before a host alone, that before `*.example.com`, and of several such
the longest. A host that nobody wrote down is an account of its own, with limits that are generous
to a server and still limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from volery.model.accounts import Account

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Named:
    """An account and what it is called: in messages, and as the file its balance is in."""

    name: str
    account: Account


def account_of(url: str, accounts: Mapping[str, Account]) -> Named:
    """The account a URL belongs to."""
    host, port = _address(url)
    by_host = {each: name for name, account in accounts.items() for each in account.hosts}
    for pattern in _patterns(host, port):
        if pattern in by_host:
            return Named(by_host[pattern], accounts[by_host[pattern]])
    own = f"{host}:{port}"
    return Named(own, Account.model_construct(hosts=(own,)))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return f"[{host}]" if ":" in host else host, parts.port or PORTS.get(parts.scheme, 80)


def _patterns(host: str, port: int) -> Iterator[str]:
    """How a manifest may have written a host, the most exact way first."""
    yield from (f"{host}:{port}", host)
    labels = host.split(".")
    for skipped in range(1, len(labels)):
        wide = "*." + ".".join(labels[skipped:])
        yield from (f"{wide}:{port}", wide)
