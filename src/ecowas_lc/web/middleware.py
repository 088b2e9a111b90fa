"""The gate that every request passes: limits, sign-in, permissions, and security headers."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from ecowas_lc.web.open_pages import page_of_problem, wants_html
from ecowas_lc.web.permissions import Permission, may, permission_of
from ecowas_lc.web.principals import Principal
from ecowas_lc.web.problems import PROBLEM, UNEXPECTED, problem, problem_for

if TYPE_CHECKING:
    from ecowas_lc.web.app import Web


_MOST_KNOWN = 10_000


class Rate:
    """A rate limit for each user: requests per minute, with a burst. Each process counts separately."""

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._most = max(1.0, per_minute / 6)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, who: str) -> float:
        """Take one request from a user's allowance, and return the seconds to wait if it is used up, else 0."""
        now = time.monotonic()
        left, then = self._left.pop(who, (self._most, now))
        left = min(self._most, left + (now - then) * self._per_second)
        taken = left >= 1
        self._left[who] = (left - 1 if taken else left, now)
        while len(self._left) > _MOST_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._per_second


log = logging.getLogger("ecowas_lc.web")

COOKIE = "ecowas_lc"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_UPLOADS = frozenset({"add_document", "page_add_document"})
_TLS_ONLY = "max-age=31536000"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route whose requests all pass :func:`passed`. :func:`guarding` makes the class for one service."""

    web: ClassVar[Web]

    def get_route_handler(self) -> Handler:
        """Return the route's handler behind the gate."""
        inner = super().get_route_handler()
        web, name = self.web, self.name

        async def handle(request: Request) -> Response:
            return await passed(web, name, request, inner)

        return handle


def guarding(web: Web) -> type[GuardedRoute]:
    """Return the class of routes for one service."""
    return type("GuardedRoute", (GuardedRoute,), {"web": web})


async def passed(web: Web, name: str, request: Request, inner: Handler) -> Response:
    """Return the response to a request, or the problem for which it is refused."""
    began = time.monotonic()
    try:
        response = await _answered(web, name, request, inner)
    except ClientDisconnect:
        response = Response(status_code=400)
    except Exception as error:
        found = problem_for(error)
        if found is None:
            log.exception("%s %s failed", request.method, request.url.path)
            found = problem(500, UNEXPECTED)
        response = found
    finally:
        await request.close()  # the files of a form that was refused after its token was looked up
    if response.status_code >= 400 and response.media_type == PROBLEM and wants_html(request):
        response = page_of_problem(web, request, response)
    protect(web, request, response)
    who: Principal | None = getattr(request.state, "principal", None)
    log.info(
        "%s %s %d %s %.0f ms",
        request.method,
        shown_target(request),
        response.status_code,
        repr(who.name) if who else "-",
        1000 * (time.monotonic() - began),
    )
    return response


async def _answered(web: Web, name: str, request: Request, inner: Handler) -> Response:
    permission = permission_of(name)
    if (refusal := _too_large(web, name, request)) is not None:
        return refusal
    principal = None
    if permission is not Permission.PUBLIC:
        principal = await recognised(web, request)
        who = f"{principal.prefix}:{principal.name}" if principal else f"address {sender_of(web, request)}"
        if (wait := web.requests.wait_seconds(who)) > 0:
            return too_many(wait)
        if principal is None:
            return problem(
                401,
                "Sign in, or send an API key: Authorization: Bearer …",
                {"WWW-Authenticate": "Bearer"},
            )
    if not may(principal, permission):
        return problem(403, "Your roles don't allow this. Ask an administrator of your organisation.")
    request.state.principal = principal
    if request.method not in _SAFE and (principal is None or principal.csrf is not None):
        if not is_same_site(request):
            return problem(403, "The request was sent by another site. Use the service's own pages.")
        if principal is not None and principal.csrf is not None and not await _has_token(request, principal.csrf):
            return problem(403, f"The request lacks its {CSRF_HEADER}. Load the page again.")
    return await inner(request)


async def recognised(web: Web, request: Request) -> Principal | None:
    """Return the user of a request. An API key is tried first, then a trusted proxy's header, then the cookie."""
    headers = request.headers
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
    if key:
        return await web.access.of_key(key)
    access = web.access
    if access.proxies and (name := headers.get(access.proxy_header)) and access.is_trusted(_host(request)):
        return await access.of_proxy(name)
    if cookie := request.cookies.get(COOKIE):
        return await access.of_cookie(cookie)
    return None


def principal_in(request: Request) -> Principal:
    """Return the user of a request that has passed the gate."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


def _host(request: Request) -> str | None:
    return request.client.host if request.client else None


def sender_of(web: Web, request: Request) -> str:
    """Return the address that a request comes from: as a trusted proxy names it, else of the connection."""
    host = _host(request) or ""
    if web.access.is_trusted(host):
        for named in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            if named.strip() and not web.access.is_trusted(named.strip()):  # the client can send those before it
                return named.strip()[:100]
    return host


def too_many(wait: float) -> Response:
    """Return the response to a user who exceeds the rate limit."""
    seconds = max(1, math.ceil(wait))
    return problem(429, f"Too many requests. Try again in {seconds} s.", {"Retry-After": str(seconds)})


def _too_large(web: Web, name: str, request: Request) -> Response | None:
    """Return the refusal of a body that is too long. A body of unknown length is counted as it arrives."""
    most = web.longest_upload_bytes if name in _UPLOADS else web.longest_body_bytes
    length = request.headers.get("content-length")
    if length is not None and not (length.isascii() and length.isdecimal() and int(length) <= most):
        return problem(413, f"Send a body of at most {most} bytes.")
    request._receive = _counted(request.receive, most)
    return None


def _counted(receive: Receive, most: int) -> Receive:
    got = 0

    async def counting() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            from fastapi import HTTPException

            raise HTTPException(413, f"Send a body of at most {most} bytes.")
        return message

    return counting


def is_same_site(request: Request) -> bool:
    """Return whether a change was requested by a page of this service, as far as the browser's headers say."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:  # scripts can't set it, and unlike the host it is not changed by proxies
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower()


async def _has_token(request: Request, csrf: str) -> bool:
    from hmac import compare_digest

    given = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").partition(";")[0].strip().lower() in _FORMS:
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    return given is not None and compare_digest(given.encode(), csrf.encode())


def is_tls(web: Web, request: Request) -> bool:
    """Return whether the user's connection is encrypted, here or at a trusted proxy."""
    if request.url.scheme == "https":
        return True
    return web.access.is_trusted(_host(request)) and request.headers.get("x-forwarded-proto", "") == "https"


def set_cookie(web: Web, request: Request, response: Response, cookie: str) -> None:
    """Set the sign-in cookie in the browser of a request."""
    response.set_cookie(
        COOKIE, cookie, max_age=12 * 3600, path="/", httponly=True, samesite="lax", secure=is_tls(web, request)
    )


def protect(web: Web, request: Request, response: Response) -> None:
    """Add the security headers to a response."""
    for header, value in HEADERS.items():
        response.headers.setdefault(header, value)
    response.headers.setdefault("Cache-Control", "no-store")
    if is_tls(web, request):
        response.headers.setdefault("Strict-Transport-Security", _TLS_ONLY)


def shown_target(request: Request) -> str:
    """Return a request's path and query for the log, without tokens and on one line."""
    query = [
        (name, "hidden" if name in ("token", "key", CSRF_FIELD) else value)
        for name, value in parse_qsl(request.url.query, keep_blank_values=True)
    ]
    path = request.url.path.encode("unicode_escape").decode("ascii")
    return f"{path}?{urlencode(query)}" if query else path
