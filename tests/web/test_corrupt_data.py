"""Garbage and foreign types at every key of the service: refusals or answers; no one gets in, no listing fails."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from ecowas_lc.errors import IncompleteWarning
from ecowas_lc.web.access import digest_of, list_keys_op, remove_keys_op, set_person_op
from ecowas_lc.web.analytics import today
from ecowas_lc.web.principals import checked_principal
from ecowas_lc.web.problems import PROBLEM
from ecowas_lc.web.runs import Run, RunPrograms
from tests.faults.test_corrupt_data import OF_THE_SERVICE, corruptions, places
from tests.fixtures.servers import RunningServer, wait_until
from tests.web.conftest import Desk, desk_on
from tests.web.test_access import SentFrom

pytestmark = pytest.mark.filterwarnings("ignore::ecowas_lc.errors.IncompleteWarning")
PROXY = {"X-Forwarded-User": "kofi"}
SESSION = "kept"
PLACES = 10  # of a key, at most; of figures there are many, and all are alike


class Everything:
    """One of each kind of data that the service stores, and the requests that read it."""

    def __init__(self, desk: Desk, raw: Any) -> None:
        self.desk, self.raw, self.keys = desk, raw, desk.web.access.keys
        self.staff, self.admin = desk.key("ama", "staff"), desk.key("root", "admin")
        self.proxied = TestClient(SentFrom(desk.app, "10.1.2.3"), base_url="http://127.0.0.1:8000")
        self.proxied.portal = desk.client.portal
        desk.web.server.run(set_person_op(self.keys, checked_principal("kofi", ["staff"], desk.prefix)))
        assert self.proxied.get("/api/me", headers=PROXY).status_code == 200
        self.done = desk.ask(self.staff, "energy: how much?", session="done")["run"]
        root = checked_principal("root", ["admin"], desk.prefix, how="link")
        self.cookie = desk.client.portal.call(desk.web.access.signed_in, root)
        raw.set(self.keys.session_data(SESSION, "user_id"), '"ama"')
        # one that another process drives, and one that waits for it
        self.programs = RunPrograms(self.keys, 3600)
        self.open, self.waiting = self.begun("o" * 32), self.begun("w" * 32)
        desk.web.server.run(self.programs.claim_op(self.open.id, SESSION, "elsewhere", 600))
        [service] = [each for each in desk.web.services if each.organisation.prefix == desk.prefix]
        wait_until(lambda: not service.driver.running, "nothing runs")
        # this process is not to take them
        raw.delete(self.keys.open_runs())
        raw.zadd(self.keys.open_runs(), {f"{run.id}:{run.session}": 1e12 for run in (self.open, self.waiting)})
        self.dumped = {key: raw.dump(key) for key in raw.scan_iter(f"{desk.prefix}:*")}

    def begun(self, run_id: str, session: str = SESSION) -> Run:
        """A run that no process drives yet."""
        given = {"question": "energy: x?", "question_id": f"q{run_id}"}
        run = Run(run_id, session, "ask", "ama", given=given, began=time.time())
        assert self.desk.web.server.run(self.programs.start_op(run, "queue")) is None
        return run

    def places(self, kind: str) -> list[tuple[str, bytes, Callable[[bytes], Any]]]:
        """The data at a key, and how to replace it; of a stream, its entries."""
        key = self.key(kind)
        if self.raw.type(key) != b"stream":
            return list(places(self.raw, key))[: 3 if kind == "analytics" else PLACES]

        def replacing(place: int) -> Callable[[bytes], Any]:
            def replace(new: bytes) -> None:
                entries = self.raw.xrange(key)
                self.raw.delete(key)
                for number, (entry_id, fields) in enumerate(entries):
                    spoilt = dict.fromkeys(fields, new) if number == place else fields
                    self.raw.xadd(key, spoilt, id=entry_id)

            return replace

        entries = self.raw.xrange(key)
        chosen = {0, len(entries) // 2, len(entries) - 1}
        return [(f"entry {n}", next(iter(entries[n][1].values())), replacing(n)) for n in sorted(chosen)]

    def key(self, kind: str) -> bytes:
        keys, run = self.keys, self.open.id
        found = {
            "access_keys": keys.access_keys(),
            "access_people": keys.access_people(),
            "analytics": keys.analytics(today()),
            "audit": keys.audit(),
            "login": keys.login(digest_of(self.cookie)),
            "login_secret": keys.login("secret"),
            "open_runs": keys.open_runs(),
            "run_events": keys.run_events("done", self.done),
            "run_lease": keys.run_lease(SESSION, run),
            "runs_of_session": keys.runs_of_session(SESSION),
            "stored_runs": keys.stored_runs(SESSION),
            "served_run": keys.served_run(SESSION, run),
            "session_of_run": keys.session_of_run(run),
        }
        assert set(found) - {"login_secret"} == OF_THE_SERVICE
        return found[kind]

    def restore(self) -> None:
        pipe = self.raw.pipeline(transaction=False)
        for key in self.raw.scan_iter(f"{self.desk.prefix}:*"):
            if key not in self.dumped:
                pipe.delete(key)
        for key, dump in self.dumped.items():
            pipe.restore(key, 0, dump, replace=True)
        pipe.execute()

    def answers(self, kind: str, what: str) -> list[Any]:
        """Send every request that reads this kind of key; every answer is an expected one."""
        found = []
        for who, method, path in OPERATIONS[kind]:
            client, headers = self.desk.client, {}
            if who == "proxy":
                client, headers = self.proxied, PROXY
                self.desk.web.access._secret = None  # as in another process
            elif who == "cookie":
                headers = {"Cookie": f"ecowas_lc={self.cookie}"}
            else:
                headers = {"staff": self.staff, "admin": self.admin}[who]
            place = path.format(done=self.done, open=self.open.id, session=SESSION)
            if place.startswith("/api"):
                headers = {**headers, "Accept": "application/json"}
            else:
                headers = {**headers, "Accept": "text/html"}
            answer = client.request(method, place, headers=headers, follow_redirects=False)
            said = f"{what}: {who} {method} {place}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code < 500 or answer.status_code == 503, said
            if answer.status_code >= 400 and place.startswith("/api"):
                assert answer.headers["content-type"] == PROBLEM, said
                assert answer.json()["detail"], said
            found.append(answer)
        return found


OPERATIONS = {
    "access_keys": [("staff", "GET", "/api/me"), ("admin", "GET", "/analytics.csv")],
    "access_people": [("proxy", "GET", "/api/me"), ("admin", "GET", "/analytics.csv")],
    "analytics": [("admin", "GET", path) for path in ("/api/analytics", "/analytics", "/analytics.csv")],
    "audit": [("admin", "GET", "/api/audit"), ("admin", "GET", "/audit")],
    "login": [("cookie", "GET", "/api/me"), ("cookie", "GET", "/")],
    "login_secret": [("proxy", "GET", "/api/me")],
    "open_runs": [("staff", "GET", "/api/runs/{open}")],
    "run_events": [("staff", "GET", "/api/runs/{done}/events"), ("staff", "GET", "/api/runs/{done}")],
    "run_lease": [("admin", "POST", "/api/runs/{open}/cancel")],
    "runs_of_session": [
        ("admin", "GET", "/api/runs?session={session}"),
        ("admin", "GET", "/chat?session={session}"),
    ],
    "served_run": [
        ("admin", "GET", "/api/runs/{open}"),
        ("admin", "GET", "/api/runs?session={session}"),
        ("admin", "POST", "/api/runs/{open}/cancel"),
    ],
    "stored_runs": [("admin", "GET", "/api/runs/{open}"), ("admin", "POST", "/api/runs/{open}/cancel")],
    "session_of_run": [("admin", "GET", "/api/runs/{open}"), ("admin", "POST", "/api/runs/{open}/cancel")],
}
NEVER_IN = {"access_keys", "access_people", "login", "login_secret"}


@contextmanager
def everything_on(server: RunningServer, prefix: str) -> Iterator[Everything]:
    limits = {"web_requests_per_minute": 10**6, "web_questions_per_minute": 10**6, "web_proxies": "10.1.2.0/24"}
    with desk_on(server, prefix, held=("digital",), settings=limits) as desk, server.client() as raw:
        desk.web._look_seconds = 3600.0  # other tests look for runs; these damage some that no process may take
        yield Everything(desk, raw)


@pytest.fixture(scope="module")
def everything(redis_server: RunningServer) -> Iterator[Everything]:
    """Shared by everything that restores the damaged data."""
    redis_server.user = ""
    with everything_on(redis_server, "tcorrupt") as found:
        yield found


def shapes(value: bytes) -> list[bytes]:
    """Unexpected JSON: each field of an object in turn of another type, or missing."""
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    whole = [b"null", b"[]", b"{}", b"7", b'"x"', b"NaN", b"-1", b"1e999", b"9" * 5000]
    if not isinstance(found, dict):
        return whole
    for name in found:
        whole.append(json.dumps({key: each for key, each in found.items() if key != name}).encode())
        odds = (None, [], {}, 7, -1, "", "\ud800", float("nan"), 1e300, [[]], [None], {"admin": 1}, "admin")
        whole += [json.dumps({**found, name: odd}).encode() for odd in odds]
    return whole


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
def test_every_corruption_of_every_kind(kind: str, everything: Everything) -> None:
    """In each kind of key, in each position, garbage, other shapes and bombs cause a refusal, never a 500."""
    dice = random.Random(kind)
    for name, value, replace in everything.places(kind):
        garbage = corruptions(value, dice, 2)
        odd = shapes(value)
        for bad in [*dice.sample(garbage, 6), *dice.sample(odd, 4)]:
            try:
                replace(bad)
                everything.answers(kind, f"{kind} {name} = {bad[:80]!r}")
            finally:
                everything.restore()


TYPES: dict[str, Callable[[Any, bytes], Any]] = {
    "string": lambda raw, key: raw.set(key, "theirs"),
    "list": lambda raw, key: raw.rpush(key, "theirs"),
    "hash": lambda raw, key: raw.hset(key, "theirs", 1),
    "set": lambda raw, key: raw.sadd(key, "theirs"),
    "zset": lambda raw, key: raw.zadd(key, {"theirs": 1}),
    "stream": lambda raw, key: raw.xadd(key, {"theirs": 1}),
}


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
def test_foreign_types(kind: str, everything: Everything) -> None:
    """Another program's data at a key of the service signs no one in, causes no 500, and is unchanged."""
    key = everything.key(kind)
    for name, make in TYPES.items():
        everything.raw.delete(key)
        make(everything.raw, key)
        theirs = everything.raw.dump(key)
        first, *_ = everything.answers(kind, f"{kind} as a {name}")
        if kind in NEVER_IN:
            assert first.status_code in (401, 503), (kind, name)
        ours = everything.dumped[key]
        if everything.raw.type(key) != b"none" and kind not in ("analytics", "audit"):
            assert everything.raw.dump(key) in (theirs, ours)
        everything.restore()


@pytest.mark.parametrize("kind", ["access_keys", "access_people", "login"])
def test_access_data_that_is_wrong_lets_nobody_in(kind: str, everything: Everything) -> None:
    """A user described in part, by wrong types or under another name is refused, and never gets more rights."""
    whole = {"name": "kofi", "roles": ["staff"], "prefix": everything.desk.prefix, "groups": ["energy"]}
    wrong: list[Any] = [{key: each for key, each in whole.items() if key != name} for name in whole]
    wrong += [
        {**whole, "roles": roles} for roles in ("admin", {"admin": 1}, [], [["admin"]], None, ["boss"], True)
    ]
    wrong += [{**whole, "groups": groups} for groups in ("energy", {"energy": 1}, [7], False, 0, "", [None])]
    wrong += [{**whole, "name": name} for name in ("", " ", 7, None, ["kofi"], "a\nb", "x" * 201)]
    wrong += [{**whole, "prefix": at} for at in ("", "*", None, 7, "a:b")]
    wrong += [[], [whole], "kofi", 7, None]
    wrong += [{**whole, "name": "root"}] if kind == "access_people" else []
    key, who = everything.key(kind), {"access_keys": "staff", "access_people": "proxy", "login": "cookie"}[kind]
    digest = digest_of(everything.staff["Authorization"].removeprefix("Bearer "))
    for each in [json.dumps(one).encode() for one in wrong] + [b"[" * 100_000, b"", b"\xff"]:
        if kind == "login":
            everything.raw.set(key, each)
        else:
            everything.raw.hset(key, digest if kind == "access_keys" else "kofi", each)
        [answer, *_] = everything.answers(kind, f"{who}: {each[:200]!r}")
        assert answer.status_code in (401, 503), (each[:200], answer.text)
    everything.restore()


def test_a_key_that_can_not_be_read_is_left_out_and_can_be_removed(everything: Everything) -> None:
    """One bad key does not break the lists of keys or people, and hides no organisation; its id removes it."""
    keys, server = everything.keys, everything.desk.web.server
    for bad in (b"", b"[" * 100_000, b"[]", b'{"name": "x"}', b'{"made": "x"}'):
        everything.raw.hset(keys.access_keys(), "d" * 64, bad)
        with pytest.warns(IncompleteWarning, match="d" * 12):
            assert {each.owner.name for each in server.run(list_keys_op(keys))} == {"ama", "root"}
        assert server.run(remove_keys_op(keys, "nobody")) == 0
        assert server.run(remove_keys_op(keys, "d" * 12)) == 1
    everything.restore()


def test_a_bad_line_is_left_out_of_the_audit_and_ends_no_page(everything: Everything) -> None:
    """Unreadable lines are left out, and a page still has as many lines as it should."""
    client, audit = everything.desk.client, everything.keys.audit()
    for number in range(60):
        everything.raw.xadd(
            audit, {"l": json.dumps({"at": number, "who": "a", "how": "key", "what": f"n{number}"})}
        )
        everything.raw.xadd(audit, {"l": "[" * 5000} if number % 2 else {"other": "x"})
    lines = client.get("/api/audit?limit=50", headers=everything.admin).json()["lines"]
    assert [line["what"] for line in lines] == [f"n{number}" for number in range(59, 9, -1)]
    before = lines[-1]["id"]
    older = client.get(f"/api/audit?limit=10&before={before}", headers=everything.admin).json()["lines"]
    assert [line["what"] for line in older] == [f"n{number}" for number in range(9, -1, -1)]
    everything.restore()


def test_a_bad_day_is_left_out_of_the_figures(everything: Everything) -> None:
    """A day that can't be read, or has another type, is left out; other days are shown, and questions work."""
    desk, key = everything.desk, everything.keys.analytics(today())
    for spoil in (
        lambda: everything.raw.hset(key, "questions", "many"),
        lambda: everything.raw.hset(key, "time:soon", 1),
        lambda: everything.raw.hset(key, "questions", -5),
        lambda: (everything.raw.delete(key), everything.raw.set(key, "theirs")),
    ):
        spoil()
        days = desk.client.get("/api/analytics?days=3", headers=everything.admin).json()["days"]
        assert len(days) == 2
        assert today() not in {day["day"] for day in days}
        assert (
            desk.client.get("/analytics", headers={**everything.admin, "Accept": "text/html"}).status_code == 200
        )
        desk.ask(everything.staff, "energy: and now?")
        everything.restore()


def test_a_bad_run_is_left_out_and_another_one_is_not(everything: Everything) -> None:
    """An unreadable run is left out of its session's runs."""
    path = f"/api/runs?session={SESSION}"
    for spoil in (
        lambda key: everything.raw.hset(key, "given", "[]"),
        lambda key: everything.raw.hset(key, "attempt", "x"),
        lambda key: (everything.raw.delete(key), everything.raw.set(key, "theirs")),
    ):
        spoil(everything.key("served_run"))
        runs = everything.desk.client.get(path, headers=everything.admin).json()
        assert [run["run"] for run in runs] == [everything.waiting.id]
        everything.restore()


SPOILT: dict[str, Callable[[Any, Any, Run], Any]] = {
    **{
        f"{name} = {bad!r}": lambda raw, keys, run, name=name, bad=bad: raw.hset(
            keys.served_run(run.session, run.id), name, bad
        )
        for name, bad in [("attempt", ""), ("last", "x"), ("given", "[]"), ("given", "[" * 9), ("began", "nan")]
    },
    "a foreign type for the run": lambda raw, keys, run: (
        raw.delete(keys.served_run(run.session, run.id)),
        raw.set(keys.served_run(run.session, run.id), "theirs"),
    ),
    "a foreign type for the events": lambda raw, keys, run: (
        raw.delete(keys.run_events(run.session, run.id)),
        raw.set(keys.run_events(run.session, run.id), "theirs"),
    ),
    "a foreign type for the lease": lambda raw, keys, run: raw.hset(keys.run_lease(run.session, run.id), "a", 1),
    "a lease without an end": lambda raw, keys, run: raw.set(keys.run_lease(run.session, run.id), "x"),
    "garbage for the first event": lambda raw, keys, run: (
        raw.delete(keys.run_events(run.session, run.id)),
        raw.xadd(keys.run_events(run.session, run.id), {"e": "[7]"}, id="0-1"),
    ),
}


@pytest.mark.parametrize("how", sorted(SPOILT))
def test_a_bad_run_blocks_no_session_and_no_other_run(how: str, everything: Everything) -> None:
    """A run that can't be driven is abandoned: its session accepts questions, and other orphans are driven."""
    desk, raw, keys = everything.desk, everything.raw, everything.keys
    try:
        bad, good = everything.begun("b" * 32, "spoilt"), everything.begun("g" * 32, "whole")
        raw.set(keys.session_data("spoilt", "user_id"), '"ama"')
        SPOILT[how](raw, keys, bad)
        raw.zadd(keys.open_runs(), {b"\xff\xff": 0, b"": 0, b":": 0, b"x y:s": 0})
        for run in (bad, good):
            raw.zadd(keys.open_runs(), {f"{run.id}:{run.session}": 1})
        [service] = [each for each in desk.web.services if each.organisation.prefix == desk.prefix]
        desk.client.portal.call(service.driver.take_over)
        wait_until(
            lambda: raw.hget(keys.served_run("whole", good.id), "status") == b"done", "the good run is done"
        )
        wait_until(lambda: raw.llen(keys.runs_of_session("spoilt")) == 0, "the bad run is out of the way")
        kept = {run.id.encode() + b":kept" for run in (everything.open, everything.waiting)}
        wait_until(lambda: set(raw.zrange(keys.open_runs(), 0, -1)) == kept, "no useless entry is left")
        assert desk.ask(everything.staff, "energy: and now?", session="spoilt")["status"] == "done"
    finally:
        wait_until(lambda: not any(each.driver.running for each in desk.web.services), "nothing runs")
        everything.restore()


def test_a_session_with_a_bad_run_can_be_cleared(redis_server: RunningServer, prefix: str) -> None:
    """Clearing removes the data of an unreadable run, too."""
    with everything_on(redis_server, prefix) as found, warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteWarning)
        found.raw.hset(found.key("served_run"), "given", "[" * 9)
        found.raw.set(found.key("stored_runs"), "another program's")
        answer = found.desk.client.delete(f"/api/sessions/{SESSION}", headers=found.admin)
        assert answer.is_success, answer.text
        assert not found.raw.exists(found.key("served_run"), found.key("runs_of_session"))
