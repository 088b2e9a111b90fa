"""Turns templates into HTML. Every value is escaped, and no page has inline scripts or styles."""

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
        root: The path under which the service is mounted; empty at the top.
        path: The page's path.
        query: The query's parameters. Ids may hold any characters.
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
        template: The template's file name.
        language: The language of the page.
        root: The path under which the service is mounted.
        values: The values that the template shows.
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
    # stored ids and texts may hold lone surrogates, which UTF-8 can't encode
    return page.encode("utf-8", "replace")
