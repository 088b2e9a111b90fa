"""Permissions: denied by default, in one place that every route passes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, routing
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from ecowas_lc.web.middleware import COOKIE, Rate, guarding
from ecowas_lc.web.permissions import _ROLES, ROUTES, Permission
from tests.fixtures.servers import RunningServer
from tests.web.conftest import Desk, desk_on

ROLES = ("anonymous", "staff", "reviewer", "operator", "admin", "elsewhere")
PUBLIC = {"health", "live", "ready", "static", "sign_in", "use_key", "page_sign_in", "set_language"}
MAY = {
    # what each role may use; everything else is refused
    "staff": {Permission.SIGNED_IN, Permission.CHAT, Permission.DOCUMENTS},
    "reviewer": {Permission.SIGNED_IN, Permission.REVIEW, Permission.DOCUMENTS},
    "operator": {Permission.SIGNED_IN, Permission.SYSTEM, Permission.ANALYTICS, Permission.AUDIT},
    "admin": set(Permission),
    "elsewhere": set(Permission),  # an administrator of another organisation
}


@pytest.fixture(scope="module")
def shared(redis_server: RunningServer) -> Iterator[Desk]:
    """A service for tests that only ask; its settings allow as many requests as they send."""
    redis_server.user = ""
    limits = {"web_requests_per_minute": 10**6, "web_questions_per_minute": 10**6}
    with desk_on(redis_server, "tshared", held=("digital",), settings=limits) as found:
        yield found


@pytest.fixture(scope="module")
def keys(shared: Desk) -> dict[str, dict[str, str]]:
    """The headers of a user with each role."""
    found = {role: shared.key(role, role) for role in ("staff", "reviewer", "operator", "admin")}
    return {**found, "anonymous": {}, "elsewhere": shared.key("eve", "admin", organisation="telsewhere")}


def routes_of(app: FastAPI) -> list[tuple[str, str, str]]:
    """Every route of the app: method, path, and the name of its function."""
    if hasattr(routing, "iter_route_contexts"):  # newer versions of FastAPI keep included routers separate
        routes = [context.original_route for context in routing.iter_route_contexts(app.routes)]
    else:
        routes = list(app.routes)
    found = []
    for route in routes:
        assert isinstance(route, APIRoute), f"{route} does not pass the gate"
        found += [(method, route.path, route.name) for method in sorted(route.methods)]
    return found


def filled(path: str) -> str:
    return re.sub(r"{[^}]*}", "x", path)


def test_every_route_for_every_role(shared: Desk, keys: dict[str, dict[str, str]]) -> None:
    """Without a login, everything but health and signing in answers 401; with one, what the roles don't allow
    answers 403, and what they allow something else.
    """
    found = routes_of(shared.app)
    assert len(found) > 40
    wrong = []
    for method, path, name in found:
        for role in ROLES:
            answer = shared.client.request(
                method,
                filled(path),
                headers=keys[role],
                json={} if method == "POST" else None,
                follow_redirects=False,
            )
            if name in PUBLIC:
                right = answer.status_code != 403
            elif role == "anonymous":
                right = answer.status_code == 401
            elif ROUTES[name] in MAY[role]:
                right = answer.status_code not in (401, 403)
            else:
                right = answer.status_code == 403
            if not right or answer.status_code >= 500:
                wrong.append((method, path, role, answer.status_code))
    assert wrong == []


def test_every_route_has_a_permission_and_each_permission_its_roles(shared: Desk) -> None:
    """A route that is in no table is refused to everyone, and the table has only existing routes."""
    names = {name for _, _, name in routes_of(shared.app)}
    assert {name for name, permission in ROUTES.items() if permission is Permission.PUBLIC} == PUBLIC
    assert names - set(ROUTES) == set()
    assert set(_ROLES) == set(Permission) - {Permission.PUBLIC}
    table = {role: {p for p, roles in _ROLES.items() if role in roles} for role in MAY if role != "elsewhere"}
    assert table == {role: MAY[role] - {Permission.PUBLIC} for role in table}


def test_a_route_that_nobody_thought_of_is_closed(shared: Desk, keys: dict[str, dict[str, str]]) -> None:
    """A route without a permission answers 403 even to an administrator."""
    from fastapi import APIRouter

    router = APIRouter(route_class=guarding(shared.web))

    @router.get("/forgotten")
    async def forgotten(request: Request) -> dict[str, str]:
        return {"secret": "everything"}

    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        assert client.get("/forgotten").status_code == 401
        assert client.get("/forgotten", headers=keys["admin"]).status_code == 403


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_addresses_that_are_not_there_tell_strangers_nothing(
    shared: Desk, keys: dict[str, dict[str, str]], method: str
) -> None:
    """Without a login, existing and missing things answer alike."""
    for path in (
        "/nothing",
        "/api/nothing",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/api/sessions",
        "/.env",
        "//etc",
    ):
        assert shared.client.request(method, path).status_code == 401
        assert shared.client.request(method, path, headers=keys["staff"]).status_code != 401


def test_organisations_do_not_meet(shared: Desk, keys: dict[str, dict[str, str]]) -> None:
    """Sessions, threads, runs, drafts, documents, figures and the audit of one organisation are invisible to an
    administrator of another.
    """
    staff, client = keys["staff"], shared.client
    run = shared.ask(staff, "energy: how much?", session="own")["run"]
    waiting = shared.ask(staff, "digital: how much?", session="held")
    for path in ("/api/sessions/own", "/api/threads/own", f"/api/runs/{run}", f"/api/runs/{run}/events"):
        assert client.get(path, headers=staff).status_code == 200
        assert client.get(path, headers=keys["elsewhere"]).status_code == 404
    own = client.get("/api/sessions", headers=keys["admin"]).json()
    assert {each["session"] for each in own["sessions"]} >= {"own"}
    there = keys["elsewhere"]
    assert client.get("/api/sessions", headers=there).json() == {"sessions": [], "total": 0}
    assert client.get("/api/threads", headers=there).json() == {"threads": [], "total": 0}
    assert client.get("/api/approvals", headers=there).json() == []
    [day] = client.get("/api/analytics?days=1", headers=there).json()["days"]
    assert day["questions"] == 0
    audit = client.get("/api/audit", headers=there).json()["lines"]
    assert {line["who"] for line in audit} <= {"eve"}
    decision = {"session": "held", "draft": waiting["waiting"][0]["draft"]}
    assert client.post("/api/approvals/approve", json=decision, headers=there).status_code == 409
    assert client.post("/api/sessions/clear", json={"sessions": ["own"]}, headers=there).status_code == 404
    assert client.get("/api/sessions/own", headers=staff).json()["total"] == 2


def test_staff_have_their_own_sessions_alone(desk: Desk) -> None:
    """A colleague's data is answered as if it did not exist, whatever is tried; an admin sees it."""
    ama, kofi, admin = desk.key("ama", "staff"), desk.key("kofi", "staff"), desk.key("root", "admin")
    run = desk.ask(ama, "energy: what?", session="hers")["run"]
    message = desk.client.get("/api/sessions/hers", headers=ama).json()["messages"][0]["id"]
    checkpoint = desk.client.get("/api/threads/hers", headers=ama).json()["head"]
    tries: list[tuple[str, str, Any]] = [
        ("GET", "/api/sessions/hers", None),
        ("POST", "/api/sessions/hers/extend", {"ttl_seconds": 5}),
        ("POST", "/api/sessions/extend", {"sessions": ["hers"]}),
        ("POST", "/api/sessions/clear", {"sessions": ["hers"]}),
        ("DELETE", "/api/sessions/hers", None),
        ("GET", "/api/threads/hers", None),
        ("GET", "/api/threads/hers/state", None),
        ("GET", "/api/threads/hers/diff", None),
        ("POST", "/api/threads/hers/fork", {"checkpoint": checkpoint}),
        ("POST", "/api/threads/hers/regenerate", {}),
        ("POST", "/api/threads/hers/edit", {"message": message, "question": "energy: else?"}),
        ("POST", "/api/chat", {"question": "energy: and?", "session": "hers"}),
        ("POST", "/api/chat/stream", {"question": "energy: and?", "session": "hers"}),
        ("POST", "/api/runs", {"question": "energy: and?", "session": "hers"}),
        ("GET", "/api/runs?session=hers", None),
        ("GET", f"/api/runs/{run}", None),
        ("GET", f"/api/runs/{run}/events", None),
        ("POST", f"/api/runs/{run}/cancel", None),
    ]
    for method, path, body in tries:
        assert desk.client.request(method, path, json=body, headers=kofi).status_code == 404, (method, path)
    assert desk.client.get("/api/sessions", headers=kofi).json()["total"] == 0
    assert desk.client.get("/api/threads", headers=kofi).json()["total"] == 0
    assert desk.client.get("/api/sessions/hers", headers=admin).json()["total"] == 2
    assert desk.client.get("/api/sessions/hers", headers=ama).json()["ttl_seconds"] > 1000


def test_groups_limit_whom_staff_ask_and_what_reviewers_decide(desk: Desk) -> None:
    """A user limited to groups can ask only those, by name or by routing, and decides only on theirs."""
    energy = desk.key("ama", "staff", groups=["energy"])
    assert desk.ask(energy, "energy: what?")["groups"] == ["energy"]
    assert desk.ask(energy, "energy+digital: what?")["groups"] == ["energy"]
    refused = desk.client.post("/api/chat", json={"question": "digital: what?"}, headers=energy)
    assert (refused.status_code, refused.json()["error"]) == (403, "NotAllowedError")
    named = {"question": "what?", "groups": ["digital"]}
    assert desk.client.post("/api/chat", json=named, headers=energy).status_code == 403
    [waiting] = desk.ask(desk.key("esi", "staff"), "digital: draft?", session="s")["waiting"]
    decision = {"session": "s", "draft": waiting["draft"]}
    theirs, others = (desk.key(f"r{group}", "reviewer", groups=[group]) for group in ("digital", "energy"))
    assert desk.client.get("/api/approvals", headers=others).json() == []
    assert desk.client.post("/api/approvals/approve", json=decision, headers=others).status_code == 409
    assert [each["draft"] for each in desk.client.get("/api/approvals", headers=theirs).json()] == [
        waiting["draft"]
    ]
    assert desk.client.post("/api/approvals/approve", json=decision, headers=theirs).json()["status"] == "done"


def test_a_draft_is_nowhere_until_it_is_released(desk: Desk) -> None:
    """The asker can't read the held answer: not in the stream, the session, the thread, or its steps."""
    staff, reviewer = desk.key("ama", "staff"), desk.key("kofi", "reviewer")
    asked = desk.client.post("/api/chat/stream", json={"question": "digital: x?", "session": "s"}, headers=staff)
    paths = (
        "/api/sessions/s",
        "/api/threads/s",
        "/api/threads/s/state",
        "/api/threads/s/diff",
        "/api/sessions",
    )
    seen = [asked.text, *(desk.client.get(path, headers=staff).text for path in paths)]
    assert not [text for text in seen if "Digital says so" in text]
    [draft] = desk.client.get("/api/approvals", headers=reviewer).json()
    assert draft["answer"] == "Digital says so."
    edited = {"session": "s", "draft": draft["draft"], "digest": draft["digest"], "text": "Said with care."}
    stale = {**edited, "digest": "0" * 32}
    assert desk.client.post("/api/approvals/edit", json=stale, headers=reviewer).status_code == 409
    assert desk.client.post("/api/approvals/edit", json=edited, headers=reviewer).json()["status"] == "done"
    messages = desk.client.get("/api/sessions/s", headers=staff).json()["messages"]
    assert [message["text"] for message in messages] == ["digital: x?", "Said with care."]
    late = desk.client.post(
        "/api/approvals/reject", json={"session": "s", "draft": draft["draft"]}, headers=reviewer
    )
    assert (late.status_code, late.json()["error"]) == (409, "NotWaitingError")


# --- signing in ---


def test_a_link_signs_in_once(desk: Desk) -> None:
    """A token sets a cookie that scripts can't read and other sites don't send, leads to the first page, and is
    invalid afterwards.
    """
    token = desk.web.access.one_time_token()
    answer = desk.client.get(f"/sign-in?token={token}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=lax", "path=/"} <= {word.strip() for word in cookie.split(";")}
    assert "secure" not in cookie
    assert token not in cookie
    assert desk.client.get("/api/me").json()["roles"] == ["admin"]
    desk.client.cookies.clear()
    assert desk.client.get(f"/sign-in?token={token}", follow_redirects=False).status_code == 403
    assert desk.client.get("/sign-in?token=x", follow_redirects=False).status_code == 403
    assert desk.client.get("/api/me").status_code == 401


def test_a_key_signs_in_and_out(desk: Desk) -> None:
    """The cookie of a key may do what the key may, until it is signed out; it does not outlive the key."""
    key = desk.key("ama", "operator")["Authorization"].removeprefix("Bearer ")
    assert desk.client.get("/api/me", headers={"X-API-Key": key}).json()["name"] == "ama"
    assert desk.client.post("/api/sign-in", json={"key": f"{key}x"}).status_code == 401
    assert desk.client.post("/api/sign-in", json={"key": key}).status_code == 204
    me = desk.client.get("/api/me").json()
    assert me["roles"] == ["operator"]
    old = desk.client.cookies[COOKIE]
    token = {"X-CSRF-Token": me["csrf_token"]}
    assert desk.client.post("/api/sign-out").status_code == 403
    assert desk.client.post("/api/sign-out", headers=token).status_code == 204
    desk.client.cookies.set(COOKIE, old)
    assert desk.client.get("/api/me").status_code == 401


def test_a_cookie_alone_changes_nothing(desk: Desk) -> None:
    """Other sites can make a browser send the cookie, but not the token; nor a request that claims another
    origin.
    """
    desk.client.get(f"/sign-in?token={desk.web.access.one_time_token()}", follow_redirects=False)
    token = desk.client.get("/api/me").json()["csrf_token"]
    body = {"question": "energy: x?", "session": "s"}
    good = {"X-CSRF-Token": token}
    for headers in (
        {},
        {"X-CSRF-Token": "0" * 32},
        {"X-CSRF-Token": "é".encode()},
        {**good, "Origin": "https://evil.example"},
        {**good, "Origin": "null"},
        {**good, "Sec-Fetch-Site": "cross-site"},
        {**good, "Sec-Fetch-Site": "same-site"},
    ):
        assert desk.client.post("/api/chat", json=body, headers=headers).status_code == 403, headers
    for right in (
        {**good, "Origin": "http://127.0.0.1:8000"},
        {**good, "Origin": "https://desk.example", "Sec-Fetch-Site": "same-origin"},  # a proxy changed the host
    ):
        assert desk.client.post("/api/chat", json=body, headers=right).status_code == 200
    form = {"csrf_token": token}
    assert desk.client.post("/api/sign-out", data={}).status_code == 403
    assert desk.client.post("/api/sign-out", data=form).status_code == 204


class SentFrom:
    """An application whose requests come from this address."""

    def __init__(self, app: FastAPI, address: str) -> None:
        self.app, self.address = app, address

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "client": (self.address, 1234)}, receive, send)


def test_a_proxy_signs_in_from_its_own_address_alone(redis_server: RunningServer, prefix: str) -> None:
    """The header of a trusted proxy identifies a user; the same header from elsewhere is ignored."""
    settings = {"web_proxies": "10.1.2.0/24, ::1", "web_proxy_header": "X-Remote-User"}
    from ecowas_lc.web.access import set_person_op
    from ecowas_lc.web.principals import checked_principal

    with desk_on(redis_server, prefix, settings=settings) as desk:
        op = set_person_op(desk.web.access.keys, checked_principal("ama@desk", ["staff"], prefix))
        desk.web.server.run(op)
        headers = {"X-Remote-User": "ama@desk", "X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.2.3"}
        for address, expected in (
            ("10.1.2.3", 200),
            ("::ffff:10.1.2.9", 200),
            ("10.1.3.3", 401),
            ("127.0.0.1", 401),
        ):
            client = TestClient(SentFrom(desk.app, address), base_url="http://127.0.0.1:8000")
            client.portal = desk.client.portal  # the loop on which the service runs
            answer = client.get("/api/me", headers=headers)
            assert answer.status_code == expected, address
            assert ("strict-transport-security" in answer.headers) is (expected == 200)
            if expected == 200:
                token = answer.json()["csrf_token"]
                chat = {"question": "energy: x?"}
                assert client.post("/api/chat", json=chat, headers=headers).status_code == 403
                assert client.post("/api/chat", json=chat, headers={**headers, "X-CSRF-Token": token}).is_success
                assert client.get("/api/me", headers={**headers, "X-Remote-User": "stranger"}).status_code == 401
                token_link = desk.web.access.one_time_token()
                signed = client.get(f"/sign-in?token={token_link}", headers=headers, follow_redirects=False)
                for number in range(12):
                    forged = {**headers, "X-Forwarded-For": f"192.0.2.{number}, 198.51.100.7, 10.1.2.4"}
                    guessed = client.get("/sign-in?token=x", headers=forged, follow_redirects=False)
                assert guessed.status_code == 429, "an address that the client makes up is no way round the limit"
                other = {**headers, "X-Forwarded-For": "198.51.100.8"}
                assert client.get("/sign-in?token=x", headers=other).status_code == 403, "others are locked out"
                desk.web.sign_ins = Rate(30)
                assert "secure" in signed.headers["set-cookie"].lower()


def test_a_removed_key_is_worth_nothing_at_once(desk: Desk) -> None:
    """Keys are stored as digests, and a removed one is refused with the next request."""
    from ecowas_lc.web.access import list_keys_op, remove_keys_op

    headers = desk.key("ama", "staff")
    assert desk.client.get("/api/me", headers=headers).status_code == 200
    stored = desk.web.server.run(_all(desk))
    assert headers["Authorization"].removeprefix("Bearer ").encode() not in stored
    [key] = desk.web.server.run(list_keys_op(desk.web.access.keys))
    assert desk.web.server.run(remove_keys_op(desk.web.access.keys, key.id)) == 1
    assert desk.client.get("/api/me", headers=headers).status_code == 401


def _all(desk: Desk) -> Any:
    from ecowas_lc.storage.ops import command

    [stored] = yield (command("HGETALL", desk.web.access.keys.access_keys()),)
    return repr(stored).encode()
