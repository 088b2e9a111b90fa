"""The web service: an API and pages for staff and operators, as a router or an application (extra ``web``)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ecowas_lc._extras import install_command
from ecowas_lc.errors import MissingExtraError

if TYPE_CHECKING:
    from ecowas_lc.web.app import create_app, ecowas_router

__all__ = ["create_app", "ecowas_router"]

_NEEDED = ("fastapi", "jinja2", "python_multipart", "uvicorn")


def check_installed() -> None:
    """Check that the ``web`` extra is installed.

    Raises:
        MissingExtraError: It is not installed.
    """
    if any(find_spec(module) is None for module in _NEEDED):
        raise MissingExtraError(f"The service needs the extra web. Install it: {install_command('web')}")


def __getattr__(name: str) -> Any:
    if name in __all__:
        check_installed()
        from ecowas_lc.web import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
