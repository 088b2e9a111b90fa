"""Signing in with a one-time link, and the least that a page needs for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ecowas_lc.web.gate import set_cookie, too_many
from ecowas_lc.web.principals import Role, checked_principal

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign in</title>
<main><h1>Sign in</h1><p>{said}</p></main></html>"""
_HOW = "Open the link that the service printed when it started, or use an API key."
_USED = "This link was used already, or is not of this process. Start the service again for a new one."


def add_sign_in(router: APIRouter, web: Web) -> None:
    """Add the route of the one-time link."""

    @router.get("/sign-in", include_in_schema=False)
    async def sign_in(request: Request, token: Annotated[str | None, Query(max_length=200)] = None) -> Response:
        """Sign in with a one-time link, and go to the first page."""
        if token is None:
            return HTMLResponse(PAGE.format(said=_HOW))
        wait = web.sign_ins.wait_seconds(request.client.host if request.client else "")
        if wait > 0:
            return too_many(wait)
        cookie = await web.access.use_token(token)
        if cookie is None:
            return HTMLResponse(PAGE.format(said=_USED), 403)
        response = RedirectResponse(f"{web.path}/", 303)
        set_cookie(web, request, response, cookie)
        owner = checked_principal("local", [Role.ADMIN], web.settings.prefix, how="link")
        await web.service_for(owner).note(owner, "sign in")
        return response
