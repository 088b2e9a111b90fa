"""Documents over the API: who may read and change them, and which files are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.web.conftest import Desk, make_key

TEXT = b"# Power pool\n\nThe pool has 14 members. It was founded in 1999 in Cotonou."


def added(desk: Desk, who: dict[str, str], name: str = "pool.md", content: bytes = TEXT, **about: str) -> Any:
    return desk.client.post("/api/documents", files={"file": (name, content)}, data=about, headers=who)


def test_a_document_from_adding_to_removing(desk: Desk) -> None:
    """A document is found, shown to users whose groups may read it, and gone after its removal."""
    admin, reader = desk.key("root", "admin"), desk.key("ama", "staff", groups=["energy"])
    other = desk.key("kofi", "staff", groups=["digital"])
    answer = added(desk, admin, groups="energy", title="The pool")
    assert answer.status_code == 201, answer.text
    name = answer.json()["document"]
    assert [each["title"] for each in desk.client.get("/api/documents", headers=reader).json()] == ["The pool"]
    assert "14 members" in desk.client.get(f"/api/documents/{name}", headers=reader).json()["text"]
    query = {"query": "members of the pool", "group": "energy"}
    [found] = desk.client.get("/api/documents/search", params=query, headers=reader).json()
    assert found["document"] == name
    assert desk.client.get("/api/documents", headers=other).json() == []
    assert desk.client.get(f"/api/documents/{name}", headers=other).status_code == 404
    assert desk.client.get("/api/documents/search", params=query, headers=other).status_code == 403
    assert desk.client.delete(f"/api/documents/{name}", headers=reader).status_code == 403
    assert desk.client.delete(f"/api/documents/{name}", headers=admin).status_code == 200
    assert desk.client.delete(f"/api/documents/{name}", headers=admin).status_code == 404
    assert desk.client.get("/api/documents", headers=admin).json() == []
    whats = [line["what"] for line in desk.client.get("/api/audit", headers=admin).json()["lines"]]
    assert whats == ["remove document", "add document"]


UNUSABLE = {
    "unknown": ("x.exe", b"MZ"),
    "damaged": ("x.pdf", b"no pdf"),
    "empty": ("x.md", b""),
    "hidden": (".env", b"KEY=1"),
    "long": ("x" * 300 + ".md", TEXT),
    "plain": ("x", TEXT),
}


@pytest.mark.parametrize(("name", "content"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_can_not_be_a_document_is_named(desk: Desk, name: str, content: bytes) -> None:
    """An unusable file is refused with the reason; nothing is stored."""
    admin = desk.key("root", "admin")
    answer = added(desk, admin, name, content)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"]
    assert desk.client.get("/api/documents", headers=admin).json() == []


def test_documents_are_added_found_and_removed_on_their_page(desk: Desk) -> None:
    """Forms without a script add and remove documents, and name a refused file; only admins see the forms."""
    client = desk.client
    client.post("/sign-in", data={"key": make_key(desk.url, desk.prefix, "root", "admin")})
    token = {"csrf_token": client.get("/api/me").json()["csrf_token"]}
    html = {"Accept": "text/html"}

    def add(name: str, content: bytes, data: dict[str, Any]) -> Any:
        return client.post(
            "/documents", files={"file": (name, content)}, data=data, headers=html, follow_redirects=False
        )

    assert add("pool.md", TEXT, {}).status_code == 403
    refused = add("<b>.pdf", b"no pdf", token)
    assert (refused.status_code, "&lt;b&gt;.pdf is damaged" in refused.text) == (422, True)
    large = TEXT + b"\n\nMore about power lines." * 20_000  # longer than any other form may be
    answer = add("pool.md", large, {**token, "groups": ["energy", "digital"], "title": "The <i>pool</i>"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/documents?done=documents.added")
    page = client.get("/documents", headers=html).text
    assert "The &lt;i&gt;pool&lt;/i&gt;" in page
    [link] = re.findall(r'href="(/document\?document=[^"]*)"', page)
    assert "14 members" in client.get("/documents?search=members+of+the+pool&group=energy", headers=html).text
    assert "14 members" not in client.get("/documents?search=members&group=agriculture", headers=html).text
    assert "14 members" in client.get(link, headers=html).text
    name = {"document": link.partition("=")[2]}
    client.cookies.clear()
    client.post("/sign-in", data={"key": make_key(desk.url, desk.prefix, "ama", "staff", groups=["digital"])})
    staff = {"csrf_token": client.get("/api/me").json()["csrf_token"]}
    assert link in client.get("/documents", headers=html).text
    assert "multipart" not in client.get("/documents", headers=html).text
    assert "/documents/remove" not in client.get(link, headers=html).text
    assert client.post("/documents/remove", data={**staff, **name}).status_code == 403
    client.cookies.clear()
    client.post("/sign-in", data={"key": make_key(desk.url, desk.prefix, "root", "admin")})
    token = {"csrf_token": client.get("/api/me").json()["csrf_token"]}
    removed = client.post("/documents/remove", data={**token, **name}, follow_redirects=False)
    assert (removed.status_code, removed.headers["location"]) == (303, "/documents?done=documents.removed")
    assert client.get(link, headers=html).status_code == 404
    audit = client.get("/audit", headers={**html, "Accept-Language": "pt"}).text
    assert "Removeu um documento" in audit
    assert "Acrescentou um documento" in audit


def test_a_name_leads_nowhere(desk: Desk) -> None:
    """A file's name may contain a path: only its last part is kept."""
    admin = desk.key("root", "admin")
    for name in ("../../etc/pool.md", "..\\..\\pool.md", "/etc/pool.md"):
        assert added(desk, admin, name).json()["name"] == "pool.md"
