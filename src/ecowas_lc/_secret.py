"""Passwords as text that can be used but is not shown in reprs, messages or tracebacks with variables."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

_SHOWN = "**********"


class Secret(str):
    """Text that appears as asterisks in reprs and f-strings; ``str()`` and encoding return the real text.

    Use it for libraries that take a password as text and keep it in variables, which tools print with a traceback.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{_SHOWN}'"

    def __format__(self, format_spec: str) -> str:
        return format(_SHOWN, format_spec)


def safe_url(url: str) -> str:
    """Return ``url`` without its user name and password."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_in(url: str) -> tuple[str, Secret] | None:
    """Return the decoded user name and password in ``url``; ``None`` if it has neither.

    Raises:
        ValueError: Its host or port can't be read. The message shows no part of it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None:  # not raised in the except block: that error may quote a password that contains a slash
        raise ValueError("has a host or port that can't be read; in a password write / as %2F, @ as %40")
    login, at, _ = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    return (unquote(name), Secret(unquote(password))) if at else None
