"""The pages that need no sign-in: the sign-in page and the error page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from ecowas_lc.web.principals import Principal
from ecowas_lc.web.rendering import rendered
from ecowas_lc.web.texts import texts_of, wanted_language

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web

LANGUAGE_COOKIE = "ecowas_lc_language"


def language_of_reader(request: Request) -> str:
    """Return the language that the reader chose, or the preferred language of their browser."""
    return wanted_language(request.headers.get("accept-language", ""), request.cookies.get(LANGUAGE_COOKIE))


def door(
    web: Web, request: Request, template: str, status: int = 200, by: Principal | None = None, **values: Any
) -> Response:
    """Return a page that needs no sign-in."""
    content = rendered(
        template,
        language_of_reader(request),
        web.path,
        **{
            "csrf": (by.csrf if by else None) or "",
            "here": f"{web.path}/sign-in",
            "problem": None,
            "done": None,
            **values,
        },
    )
    return Response(content, status, media_type="text/html")


def problem_page(web: Web, request: Request, status: int, detail: str, by: Principal | None = None) -> Response:
    """Return the page for an error."""
    texts = texts_of(language_of_reader(request))
    if status == 401:
        return door(web, request, "sign_in.html", 401, back=back_of(web, request.url.path, request.url.query))
    names = {403: "forbidden", 404: "not_found", 503: "storage"}
    name = names.get(status)
    heading = texts(f"error.{name}") if name else texts("error.title")
    text = texts(f"error.{name}_text") if name else texts("common.failed", why="")
    return door(
        web, request, "error.html", status, by, heading=heading, text=text.strip(), detail="" if name else detail
    )


def wants_html(request: Request) -> bool:
    """Return whether a browser requests a page."""
    accepted = request.headers.get("accept", "")
    is_api = request.url.path.partition("/api/")[1] != ""
    return "text/html" in accepted and "hx-request" not in request.headers and not is_api


def back_of(web: Web, path: str, query: str = "") -> str:
    """Return the page to open after signing in. Only addresses of this service are accepted."""
    place = f"{path}?{query}" if query else path
    is_ours = place.startswith(f"{web.path}/") and not place.startswith(("//", "/\\")) and "\n" not in place
    return place if is_ours and not path.endswith("/sign-in") else f"{web.path}/"


def page_of_problem(web: Web, request: Request, response: Response) -> Response:
    """Return a problem as a page."""
    found = json.loads(bytes(response.body))
    by = getattr(request.state, "principal", None)
    page = problem_page(web, request, response.status_code, str(found.get("detail", "")), by)
    for name in ("Retry-After", "WWW-Authenticate", "Allow"):
        if name in response.headers:
            page.headers[name] = response.headers[name]
    return page
