"""Which account a URL belongs to."""

from __future__ import annotations

import pytest

from volery.calls.account import account_of
from volery.model.accounts import Account

ACCOUNTS = {
    name: Account(hosts=hosts)
    for name, hosts in {
        "one": ("api.example.com",),
        "port": ("api.example.com:8443",),
        "wide": ("*.example.com",),
        "wider": ("*.com", "[::1]:9090"),
    }.items()
}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.example.com/x?y", "one"),
        ("https://ann:word@API.example.com:443/", "one"),
        ("https://api.example.com:8443/", "port"),
        ("https://b.example.com", "wide"),
        ("https://c.b.example.com", "wide"),
        ("https://example.com", "wider"),
        ("http://[::1]:9090/api", "wider"),
        ("http://[::1]/api", "[::1]:80"),
        ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
        ("https://example.org", "example.org:443"),
        ("http://example.org", "example.org:80"),
    ],
)
def test_the_account_of_a_url(url: str, name: str) -> None:
    found = account_of(url, ACCOUNTS)
    assert found.name == name
    assert found.account == ACCOUNTS.get(name, Account(hosts=(name,)))
