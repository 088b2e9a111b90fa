"""The headers of every answer, the rate limits, and no secret in any output."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ecowas_lc.web import ecowas_router
from ecowas_lc.web.audit import lines_op
from tests.fixtures.scripted_model import FixedRouter
from tests.fixtures.servers import RunningServer
from tests.web.conftest import Desk, bearer, desk_on, make_key, scripted


def test_every_answer_is_protected(desk: Desk) -> None:
    """Pages, data and problems forbid inline code, frames and type guessing, and are not cached."""
    staff = desk.key("ama", "staff")
    for path, headers in (("/sign-in", {}), ("/health", {}), ("/nothing", {}), ("/api/me", staff), ("/x", staff)):
        answer = desk.client.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_a_problem_says_what_to_do(desk: Desk) -> None:
    """Errors are problem details, whatever is wrong, and never quote input that may be secret."""
    staff = desk.key("ama", "staff")
    tries: list[tuple[int, dict[str, Any]]] = [
        (422, {"json": {}}),
        (422, {"json": {"question": " "}}),
        (422, {"json": {"question": "x", "groups": ["nobody"]}}),
        (422, {"json": {"question": "x", "unknown": 1}}),
        (422, {"content": b"{", "headers": {"content-type": "application/json"}}),
        (422, {"content": b'{"question": "\\ud800"}', "headers": {"content-type": "application/json"}}),
        (413, {"json": {"question": "x" * 300_000}}),
    ]
    for status, sent in tries:
        sent["headers"] = {**sent.get("headers", {}), **staff}
        answer = desk.client.post("/api/chat", **sent)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), sent
        found = answer.json()
        assert found["status"] == status
        assert found["title"]
        assert found["detail"]
    wrong = desk.client.post("/api/sign-in", json={"key": "", "password": "hunter2"})
    assert (wrong.status_code, "hunter2" in wrong.text) == (422, False)


def test_a_body_of_unknown_length_is_limited_too(desk: Desk) -> None:
    """A body sent in chunks is refused as soon as it is too long, not at its end."""
    sent = 0

    def pieces() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 65536
            yield b" " * 65536

    headers = {**desk.key("ama", "staff"), "content-type": "application/json"}
    assert desk.client.post("/api/chat", content=pieces(), headers=headers).status_code == 413
    assert (
        desk.client.post("/api/chat", content=b"{}", headers={**headers, "content-length": "-1"}).status_code
        == 413
    )


def test_who_asks_too_often_is_told_when_to_come_again(redis_server: RunningServer, prefix: str) -> None:
    """Requests and questions are limited for each user; other users are unaffected."""
    limits = {"web_requests_per_minute": 120, "web_questions_per_minute": 12}
    with desk_on(redis_server, prefix, settings=limits) as desk:
        ama, kofi = desk.key("ama", "staff"), desk.key("kofi", "staff")
        questions = [desk.client.post("/api/chat", json={"question": "energy: x?"}, headers=ama) for _ in range(4)]
        assert [answer.status_code for answer in questions] == [200, 200, 429, 429]
        assert int(questions[-1].headers["retry-after"]) >= 1
        requests = [desk.client.get("/api/me", headers=ama).status_code for _ in range(25)]
        assert requests[-1] == 429
        assert desk.client.get("/api/me", headers=kofi).status_code == 200
        guesses = [desk.client.post("/api/sign-in", json={"key": f"elc_{n}"}).status_code for n in range(10)]
        assert guesses[0] == 401
        assert guesses[-1] == 429


def test_no_secret_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line per request with user and path, without tokens and keys."""
    caplog.set_level(logging.DEBUG, "ecowas_lc")
    key = desk.key("ama", "staff")
    token = desk.web.access.one_time_token()
    desk.client.get(f"/sign-in?token={token}", follow_redirects=False)
    cookie = desk.client.cookies["ecowas_lc"]
    csrf = desk.client.get("/api/me").json()["csrf_token"]
    desk.client.get("/api/sessions?search=x%0ay&token=abc", headers=key)
    desk.client.post("/api/sign-in", json={"key": "elc_wrong"})
    desk.ask(key, "energy: the secret question?")
    desk.client.get("/a%0d%0aforged line", headers=key)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("ecowas_lc")]
    log = "\n".join(said)
    for secret in (token, cookie, csrf, key["Authorization"].removeprefix("Bearer "), "abc", "secret question"):
        assert secret not in log
    assert "GET /api/sessions?search=x%0Ay&token=hidden" in log
    assert all("\n" not in line and "\r" not in line for line in said)


def test_changes_and_decisions_are_audited(desk: Desk) -> None:
    """A line says who did what, when and to what; reading, or a refused request, adds none."""
    staff, reviewer, operator = desk.key("ama", "staff"), desk.key("kofi", "reviewer"), desk.key("ops", "operator")
    [waiting] = desk.ask(staff, "digital: x?", session="s")["waiting"]
    decision = {"session": "s", "draft": waiting["draft"]}
    desk.client.post("/api/approvals/approve", json={**decision, "draft": "stale"}, headers=reviewer)
    desk.client.post("/api/approvals/approve", json=decision, headers=reviewer)
    desk.client.get("/api/sessions/s", headers=staff)
    desk.client.post("/api/sessions/s/extend", json={"ttl_seconds": 500}, headers=staff)
    desk.client.delete("/api/sessions/s", headers=staff)
    desk.client.delete("/api/sessions/s", headers=staff)
    lines = desk.client.get("/api/audit", headers=operator).json()["lines"]
    told = [(line["who"], line["what"], line.get("session"), line.get("draft")) for line in reversed(lines)]
    draft = waiting["draft"]
    assert told == [
        ("ama", "ask", "s", None),
        ("kofi", "approve", "s", draft),
        ("ama", "extend", "s", None),
        ("ama", "clear", "s", None),
    ]
    assert all(line["at"] > 1.6e9 and line["id"] for line in lines)
    page = desk.client.get(f"/api/audit?limit=2&before={lines[1]['id']}", headers=operator).json()["lines"]
    assert page == lines[2:4]
    stored = desk.web.server.run(lines_op(desk.web.service_of(desk.prefix).organisation.keys))
    assert [line.as_json() for line in stored] == lines


def test_the_router_in_an_application_of_ones_own(redis_server: RunningServer, prefix: str) -> None:
    """Under a path of another application, the same gate applies, and the other routes are unaffected."""
    from ecowas_lc.settings import load_settings

    settings = load_settings(redis_url=redis_server.url, prefix=prefix)
    router = ecowas_router(settings=settings, model=scripted(), router=FixedRouter(), path="/desk")
    app = FastAPI()
    app.include_router(router, prefix="/desk")

    @app.get("/own")
    def own() -> str:
        return "mine"

    headers = bearer(make_key(redis_server.url, prefix, "ama", "staff"))
    with TestClient(app) as client:
        assert client.get("/own").json() == "mine"
        assert client.get("/desk/api/me").status_code == 401
        assert client.get("/desk/api/me").headers["x-frame-options"] == "DENY"
        answer = client.post("/desk/api/runs", json={"question": "energy: x?"}, headers=headers)
        assert answer.status_code == 202
        assert answer.json()["events"].startswith("/desk/api/runs/")
        assert "event: done" in client.get(answer.json()["events"], headers=headers).text
        assert client.post("/desk/api/chat", json={}, headers=headers).status_code == 422


def test_the_description_is_complete(desk: Desk) -> None:
    """Every route under /api is described, except the description itself, with its possible problems."""
    staff = desk.key("ama", "staff")
    found = desk.client.get("/api/openapi.json", headers=staff).json()
    json.dumps(found)
    described = {(path, method) for path, each in found["paths"].items() for method in each}
    assert len(described) > 40
    for path, each in found["paths"].items():
        for method, operation in each.items():
            assert operation.get("description"), (path, method)
            if path.startswith("/api/") and path not in ("/api/openapi.json",):
                assert "401" in operation["responses"], (path, method)
                assert "application/problem+json" in operation["responses"]["401"]["content"]
