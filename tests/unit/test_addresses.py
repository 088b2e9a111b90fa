"""Redis URLs: every topology, and never a secret in a message."""

from __future__ import annotations

import pytest

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.storage.addresses import Address, parse_url

CASES = {
    "redis://": Address("single", (("localhost", 6379),)),
    "redis://h": Address("single", (("h", 6379),)),
    "redis://:p%40ss@h:7/3": Address("single", (("h", 7),), db=3, password="p@ss"),
    "redis://user:p@[::1]:7": Address("single", (("::1", 7),), username="user", password="p"),
    "rediss://h:1": Address("single", (("h", 1),), tls=True),
    "redis://h?db=4": Address("single", (("h", 6379),), db=4),
    "rediss://h:1?ssl_ca_certs=/etc/ca.crt&db=4": Address(
        "single", (("h", 1),), db=4, tls=True, options=(("ssl_ca_certs", "/etc/ca.crt"),)
    ),
    "unix:///run/redis.sock?db=2": Address("unix", path="/run/redis.sock", db=2),
    "unix:///a%20b.sock": Address("unix", path="/a b.sock"),
    "redis+sentinel://a:1,b/main/2": Address("sentinel", (("a", 1), ("b", 26379)), service="main", db=2),
    "rediss+cluster://u:p@a:1,b:2": Address("cluster", (("a", 1), ("b", 2)), username="u", password="p", tls=True),
}


@pytest.mark.parametrize("url", CASES)
def test_urls_are_read(url: str) -> None:
    """Each form of URL yields its hosts, login, database and topology."""
    assert parse_url(url) == CASES[url]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://secret@h", "must start with one of"),
        ("localhost:6379", "must start with one of"),
        ("redis://u:secret@h:port", "host or port"),
        ("redis://u:secret@h/a/b", "path that can.t be used"),
        ("redis://u:secret@h/x", "database must be a number"),
        ("redis+sentinel://secret@h", "names its service"),
        ("redis+cluster://secret@h/1", "path that can.t be used"),
        ("unix://secret.sock", "absolute path"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(url: str, message: str) -> None:
    """A URL that can't be used is a named error that says why, and shows neither user nor password."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_addresses_show_no_secrets() -> None:
    """Neither str nor repr of an address shows its password."""
    address = parse_url("redis+sentinel://u:hunter2@a:1,[::1]:2/main")
    assert "hunter2" not in repr(address)
    assert str(address) == "a:1,[::1]:2 (service main)"
