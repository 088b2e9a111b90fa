"""``ecowas-lc access``: keys and people, added, listed and removed."""

from __future__ import annotations

import json

import pytest

from ecowas_lc.cli import serve
from ecowas_lc.errors import StorageError
from ecowas_lc.settings import load_settings
from tests.cli.conftest import Run, raising


def test_keys_and_people_from_adding_to_removing(run: Run, environment: pytest.MonkeyPatch) -> None:
    """A key is shown once; a list names who may do what; a removal says what it removed."""
    assert "No one has access yet" in run("access", "list").err
    key = json.loads(run("access", "add", "ama", "--role", "staff", "--json").out)["key"]
    assert "can now sign in through the proxy as reviewer, staff" in (
        run("access", "add-person", "kofi", "--role", "staff", "--role", "reviewer").out
    )
    added = json.loads(run("access", "add-person", "ama", "--role", "admin", "--group", "energy", "--json").out)
    assert (added["name"], added["groups"]) == ("ama", ["energy"])
    listed = run("access", "list")
    assert all(part in listed.out for part in ("ama", "kofi", "proxy", "energy", "reviewer, staff"))
    assert key not in listed.out
    found = json.loads(run("access", "list", "--json").out)
    assert (len(found["keys"]), len(found["people"])) == (1, 2)
    assert run("access", "remove", "ama", "--yes").out == "Removed: 1 key and a person.\n"
    assert json.loads(run("access", "remove", "kofi", "--yes", "--json").out) == {"keys": 0, "person": True}
    assert "No one has access under 'kofi'" in run("access", "remove", "kofi", "--yes").err


def test_who_is_asked_and_what_is_noted(run: Run, environment: pytest.MonkeyPatch) -> None:
    """A key is shown with a hint, an unconfirmed removal removes nothing, and a lost audit line is named."""
    added = run("access", "add", "ama", "--role", "staff")
    assert (added.out.startswith("elc_"), "Copy the key now" in added.err) == (True, True)
    assert "Removed" not in run("access", "remove", "ama", stdin="n\n", on_terminal=True).out
    environment.setattr("getpass.getuser", raising(OSError("no such user")))
    assert run("access", "add", "kofi", "--role", "staff").code == 0
    environment.setattr("ecowas_lc.web.audit.note_op", raising(StorageError("away")))
    ended = run("access", "add", "esi", "--role", "staff")
    assert "The change was made, but the audit has no record of it: away" in ended.err
    settings = load_settings(web_proxies="127.0.0.1")
    assert serve._check_reachable(settings, "0.0.0.0", tls=False) is None
