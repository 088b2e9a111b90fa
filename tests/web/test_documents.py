"""Documents over the API: who may read and change them, and what can't be one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.conftest import Desk

TEXT = b"# Power pool\n\nThe pool has 14 members. It was founded in 1999 in Cotonou."


def added(desk: Desk, who: dict[str, str], name: str = "pool.md", content: bytes = TEXT, **about: str) -> Any:
    return desk.client.post("/api/documents", files={"file": (name, content)}, data=about, headers=who)


def test_a_document_from_adding_to_removing(desk: Desk) -> None:
    """What an admin adds is found, shown to those whose groups may read it, and gone when it is removed."""
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
    """A file that can't be used is refused with what is wrong; nothing is stored."""
    admin = desk.key("root", "admin")
    answer = added(desk, admin, name, content)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["detail"]
    assert desk.client.get("/api/documents", headers=admin).json() == []


def test_a_name_leads_nowhere(desk: Desk) -> None:
    """A path in a file's name is no path: only its last part is kept."""
    admin = desk.key("root", "admin")
    for name in ("../../etc/pool.md", "..\\..\\pool.md", "/etc/pool.md"):
        assert added(desk, admin, name).json()["name"] == "pool.md"
