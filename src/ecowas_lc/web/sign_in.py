"""Sign-in with a one-time link, and the sign-in page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from ecowas_lc.web.middleware import sender_of, set_cookie, too_many
from ecowas_lc.web.open_pages import back_of, door, language_of_reader
from ecowas_lc.web.principals import Role, checked_principal
from ecowas_lc.web.texts import texts_of

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web


def add_sign_in(router: APIRouter, web: Web) -> None:
    """Add the route of the one-time link."""

    @router.get("/sign-in", include_in_schema=False)
    async def sign_in(
        request: Request,
        token: Annotated[str | None, Query(max_length=200)] = None,
        back: Annotated[str, Query(max_length=2000)] = "",
        done: Annotated[str, Query(max_length=50)] = "",
    ) -> Response:
        """Sign in with a one-time link and open the first page."""
        texts = texts_of(language_of_reader(request))
        if token is None:
            said = texts("sign_in.out") if done == "sign_in.out" else None
            return door(web, request, "sign_in.html", back=back_of(web, back), done=said)
        wait = web.sign_ins.wait_seconds(sender_of(web, request))
        if wait > 0:
            return too_many(wait)
        cookie = await web.access.use_token(token)
        if cookie is None:
            return door(web, request, "sign_in.html", 403, back=f"{web.path}/", problem=texts("sign_in.link_used"))
        response = RedirectResponse(f"{web.path}/", 303)
        set_cookie(web, request, response, cookie)
        owner = checked_principal("local", [Role.ADMIN], web.settings.prefix, how="link")
        await web.service_for(owner).note(owner, "sign in")
        return response
