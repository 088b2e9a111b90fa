"""The reader of a page: the user, their permissions, and the page's frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response

from ecowas_lc.web import views
from ecowas_lc.web.open_pages import language_of_reader
from ecowas_lc.web.permissions import Permission, may
from ecowas_lc.web.principals import Principal, Role
from ecowas_lc.web.rendering import address, rendered
from ecowas_lc.web.service import Service
from ecowas_lc.web.texts import Texts, texts_of

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web

NAV = (
    ("chat", "/", Permission.CHAT),
    ("sessions", "/sessions", Permission.CHAT),
    ("approvals", "/approvals", Permission.REVIEW),
    ("documents", "/documents", Permission.DOCUMENTS),
    ("analytics", "/analytics", Permission.ANALYTICS),
    ("audit", "/audit", Permission.AUDIT),
    ("system", "/system", Permission.SYSTEM),
)
_RECENT = 8
_DONE = frozenset(
    {
        "sessions.extended",
        "sessions.cleared",
        "approvals.approved_done",
        "approvals.edited_done",
        "approvals.rejected_done",
        "thread.forked",
        "documents.added",
        "documents.removed",
    }
)


@dataclass(frozen=True)
class Reader:
    """The reader of a page."""

    web: Web
    request: Request
    by: Principal

    @cached_property
    def texts(self) -> Texts:
        """The page's texts."""
        return texts_of(language_of_reader(self.request))

    @cached_property
    def service(self) -> Service:
        """The service of the reader's organisation."""
        return self.web.service_for(self.by)

    @cached_property
    def speakers(self) -> views.Speakers:
        """The names of the groups."""
        return views.Speakers(self.service.organisation.groups, self.texts, self.by.groups)

    def may(self, permission: Permission) -> bool:
        """Return whether the reader has a permission."""
        return may(self.by, permission)

    def url(self, path: str, **query: Any) -> str:
        """Return a link to a page."""
        return address(self.web.path, path, **query)

    @property
    def here(self) -> str:
        """The address of the current page."""
        query = self.request.url.query
        path = self.request.url.path
        return f"{path}?{query}" if query else path

    @property
    def is_fragment(self) -> bool:
        """Whether a script requests only a part of the page."""
        return "hx-request" in self.request.headers

    async def page(self, template: str, name: str, status: int = 200, **values: Any) -> Response:
        """Return a page with its frame."""
        recent: list[dict[str, Any]] = []
        session = values.get("session")
        if self.may(Permission.CHAT) and not self.is_fragment:
            found = await self.service.sessions(self.by, limit=_RECENT)
            recent = [
                {
                    "title": each["title"] or each["session"],
                    "href": self.url("/chat", session=each["session"]),
                    "current": name == "chat" and each["session"] == session,
                }
                for each in found["sessions"]
            ]
        waiting = 0
        if self.may(Permission.REVIEW) and not self.is_fragment:
            waiting = len(await self.service.approvals(self.by))
        done = self.request.query_params.get("done", "")
        count = self.request.query_params.get("n", "")
        number = int(count) if count.isascii() and count.isdecimal() and len(count) < 6 else 1
        frame: dict[str, Any] = {
            "csrf": self.by.csrf or "",
            "page": name,
            "here": self.here,
            "can": {
                "chat": self.may(Permission.CHAT),
                "threads": self.may(Permission.CHAT),
                "change": self.may(Permission.CHAT),
            },
            "nav": [{"name": item, "href": self.url(path)} for item, path, needs in NAV if self.may(needs)],
            "waiting": waiting,
            "recent": recent,
            "me": {"name": self.by.name, "role": _role_of(self.by), "organisation": self.by.prefix},
            "done": self.texts(done, n=number) if done in _DONE else None,
            "problem": None,
        }
        content = rendered(template, self.texts.language, self.web.path, **{**frame, **values})
        return Response(content, status, media_type="text/html")


def _role_of(by: Principal) -> str:
    return next(role.value for role in (Role.ADMIN, Role.REVIEWER, Role.OPERATOR, Role.STAFF) if role in by.roles)
