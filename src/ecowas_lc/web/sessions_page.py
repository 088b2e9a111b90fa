"""The list of sessions as its page shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

from ecowas_lc.web import views
from ecowas_lc.web.reader import Reader

if TYPE_CHECKING:
    pass

ACTIVITY: dict[str, tuple[str, float | None, float | None]] = {
    # by the name in the address: the text's name, active within this many seconds, idle for this many
    "": ("sessions.any_time", None, None),
    "1h": ("sessions.last_hour", 3600.0, None),
    "1d": ("sessions.last_day", 86400.0, None),
    "7d": ("sessions.last_week", 7 * 86400.0, None),
    "idle": ("sessions.idle", None, 30 * 86400.0),
}
LIFETIMES = (86400, 7 * 86400, 30 * 86400, 90 * 86400)
_SESSIONS_A_PAGE = 25


async def sessions_page(one: Reader, search: str, group: str, active: str, at: int) -> Response:
    """Return the list of sessions that match the search and the filters."""
    _, within, idle = ACTIVITY[active]
    limit = _SESSIONS_A_PAGE
    if group:  # the service has no filter by group
        every = await one.service.sessions(
            one.by, search=search, active_seconds=within, idle_seconds=idle, limit=1_000_000
        )
        fitting = [each for each in every["sessions"] if group in each["agents"]]
        found: dict[str, Any] = {"sessions": fitting[at : at + limit], "total": len(fitting)}
    else:
        found = await one.service.sessions(
            one.by, search=search, active_seconds=within, idle_seconds=idle, limit=limit, offset=at
        )
    total, texts = found["total"], one.texts

    def place(offset: int) -> str:
        return one.url(
            "/sessions", search=search or None, group=group or None, active=active or None, at=offset or None
        )

    rows = [
        {
            "id": each["session"],
            "title": each["title"] or each["session"],
            "href": one.url("/chat", session=each["session"]),
            "timeline": one.url("/thread", session=each["session"]),
            "owner": each["owner"],
            "groups": [one.speakers[name] for name in each["agents"] if name != views.SUPERVISOR],
            "messages": texts.number(max(each["agents"].values(), default=0)),
            "waiting": each["waiting"],
            "active": views.moment_of(each["last_activity"], texts),
            "kept": texts.lasts(each["ttl_seconds"]),
        }
        for each in found["sessions"]
    ]
    return await one.page(
        "sessions.html",
        "sessions",
        filters={"search": search, "group": group, "active": active},
        filtered=bool(search or group or active),
        groups=one.speakers.groups,
        activity=[(value, name) for value, (name, _, _) in ACTIVITY.items()],
        sessions=rows,
        total=total,
        show_owner=one.by.is_admin,
        lifetimes=[(seconds, texts.lasts(seconds)) for seconds in LIFETIMES],
        paging={
            "previous": place(max(0, at - limit)) if at else None,
            "next": place(at + limit) if at + limit < total else None,
            "text": texts("common.range", first=at + 1, last=min(at + limit, total), total=total),
        },
    )
