"""Turns templates into HTML: every value is escaped, and no page holds inline script or style."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecowas_lc.web.texts import LANGUAGES, texts_of


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ecowas_lc.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["language_names"] = {code: texts_of(code)("language") for code in LANGUAGES}
    return environment


@cache
def _digest(path: str) -> str:
    content = files("ecowas_lc.web").joinpath(f"static/{path}").read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def address(root: str, path: str, **query: Any) -> str:
    """Return a link of the service.

    Args:
        root: where the service is mounted; empty where it is at the top.
        path: the page's path.
        query: what goes into the query; ids may hold any characters.
    """
    given = {
        name: value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for name, value in query.items()
        if value is not None
    }
    return root + path + (f"?{urlencode(given)}" if given else "")


def rendered(template: str, language: str, root: str, **values: Any) -> bytes:
    """Return a page.

    Args:
        template: the template's file name.
        language: what the page is written in.
        root: where the service is mounted.
        values: what the template shows.
    """

    def url(path: str, **query: Any) -> str:
        return address(root, path, **query)

    def static(path: str) -> str:
        return f"{root}/static/{path}?v={_digest(path)}"

    page = (
        _environment()
        .get_template(template)
        .render(t=texts_of(language), lang=language, url=url, static=static, **values)
    )
    # ids and texts from elsewhere may hold lone surrogates, which UTF-8 does not have
    return page.encode("utf-8", "replace")
