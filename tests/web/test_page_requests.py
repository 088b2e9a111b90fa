"""The pages without a browser: addresses, headers, forms and problems."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from ecowas_lc.settings import load_settings
from ecowas_lc.web import ecowas_router
from ecowas_lc.web.texts import LANGUAGES
from tests.fixtures.scripted_model import FixedRouter
from tests.fixtures.servers import RunningServer
from tests.web.conftest import Desk, make_key, scripted

HTML = {"Accept": "text/html"}


def signed_in(desk: Desk, *roles: str) -> str:
    """Sign in with a key, and return the token that forms need."""
    key = make_key(desk.url, desk.prefix, "ama", *roles)
    answer = desk.client.post("/sign-in", data={"key": key}, follow_redirects=False)
    assert answer.status_code == 303
    return desk.client.get("/api/me").json()["csrf_token"]


def test_pages_work_under_a_path_of_an_application(redis_server: RunningServer, prefix: str) -> None:
    """Included under a path, every link, script and form of a page stays under it."""
    app = FastAPI()
    settings = load_settings(redis_url=redis_server.url, prefix=prefix)
    options = {"settings": settings, "model": scripted(), "router": FixedRouter()}
    app.include_router(ecowas_router(path="/desk", **options), prefix="/desk")
    key = make_key(redis_server.url, prefix, "ama", "admin")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        answer = client.post("/desk/sign-in", data={"key": key, "back": "/desk/sessions"}, follow_redirects=False)
        assert answer.headers["location"] == "/desk/sessions"
        for path in ("/desk/", "/desk/sessions", "/desk/system"):
            page = client.get(path, headers=HTML)
            assert page.status_code == 200
            assert not re.search(r'(?:href|src|action)="(?![/#])', page.text)
            links = re.findall(r'(?:href|src|action|hx-get|hx-post|data-(?:ask|turns|page))="(/[^"]*)', page.text)
            assert links
            assert [link for link in links if not link.startswith("/desk/")] == []
        for link in re.findall(r'"(/desk/static/[^"]*)"', page.text):
            assert client.get(link).status_code == 200, link


def test_forms_need_their_token(desk: Desk) -> None:
    """A form of another site, or one without the page's token, changes nothing."""
    token = signed_in(desk, "admin")
    form = {"session": "s", "question": "energy: is there power?"}
    assert desk.client.post("/chat", data=form).status_code == 403
    assert desk.client.post("/chat", data={**form, "csrf_token": "wrong"}).status_code == 403
    elsewhere = {"Origin": "https://example.org"}
    assert desk.client.post("/chat", data={**form, "csrf_token": token}, headers=elsewhere).status_code == 403
    assert desk.client.get("/sessions", headers=HTML).text.count("is there power") == 0
    answer = desk.client.post("/chat", data={**form, "csrf_token": token}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/chat?session=s")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("path", "status"), [("/sessions", 401), ("/no/such/page", 404), ("/chat?session=x", 404)]
)
def test_problems_are_pages_for_people_and_json_for_programs(
    desk: Desk, language: str, path: str, status: int
) -> None:
    """A browser gets a page in its language with the same status as a program that gets problem details."""
    if status != 401:
        signed_in(desk, "staff")
    page = desk.client.get(path, headers={**HTML, "Accept-Language": language})
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert f'<html lang="{language}">' in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    answer = desk.client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.client.get("/api/sessions/x", headers=HTML).headers["content-type"] == "application/problem+json"


def test_static_files_are_those_of_the_pages_only(desk: Desk) -> None:
    """No path leads out of the folder, and files with a digest in their address may be cached."""
    for path in ("../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "/etc/passwd", "app.css/", ""):
        assert desk.client.get(f"/static/{path}").status_code in (401, 404), path
    page = desk.client.get("/sign-in", headers=HTML).text
    [style] = re.findall(r'href="(/static/app\.css\?v=\w+)"', page)
    answer = desk.client.get(style)
    assert answer.status_code == 200
    assert "immutable" in answer.headers["cache-control"]
    assert desk.client.get("/static/app.css").headers["cache-control"] == "no-cache"


def test_a_page_shows_no_secret(desk: Desk) -> None:
    """The HTML of a page contains neither a key nor a cookie."""
    key = make_key(desk.url, desk.prefix, "ama", "admin")
    desk.client.post("/sign-in", data={"key": key})
    cookie = next(iter(desk.client.cookies.values()))
    for path in ("/", "/sessions", "/approvals", "/documents", "/analytics", "/system", "/audit"):
        text = desk.client.get(path, headers=HTML).text
        assert key not in text
        assert cookie not in text


def test_numbers_and_dates_that_make_no_sense_are_no_server_errors(desk: Desk) -> None:
    """Whatever an address contains, a page answers with what it finds or says what is wrong."""
    signed_in(desk, "admin")
    for path in (
        "/analytics?from=tomorrow&to=9999-99-99",
        "/analytics?from=2026-12-31&to=1990-01-01",
        "/analytics?organisation=nobody",
        "/analytics.csv?from=0001-01-01",
        "/sessions?at=-1",
        "/sessions?at=99999999999999999999",
        "/sessions?active=always&group=nobody&search=%00",
        "/thread?session=x&step=y&before=z",
        "/chat?session=%ED%A0%80",
        "/chat?session=&limit=x",
        "/chat/turns?session=x&limit=-5",
        "/chat/source?session=x&message=y&number=z",
        "/chat/why?session=x&message=y",
        "/audit?before=x",
        "/document?document=x",
        "/documents?search=%00&group=nobody",
        "/documents?search=%ED%A0%80",
        "/?done=sessions.cleared&n=99999999999",
    ):
        assert desk.client.get(path, headers=HTML).status_code < 500, path
