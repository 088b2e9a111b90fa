"""Passwords as text that works as text and does not show: in no repr, message or traceback with its variables."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

_SHOWN = "**********"


class Secret(str):
    """Text that shows as asterisks in reprs and f-strings; ``str()`` and what encodes it get what it is.

    For libraries that take a password as text and keep it in variables, which tools print with a traceback.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{_SHOWN}'"

    def __format__(self, format_spec: str) -> str:
        return format(_SHOWN, format_spec)


def safe_url(url: str) -> str:
    """Return ``url`` without the user name and the password that it may hold."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_in(url: str) -> tuple[str, Secret] | None:
    """Return the user name and the password that ``url`` holds, decoded; ``None`` where it holds neither.

    Raises:
        ValueError: its host or port can't be read. The message shows nothing of it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        _ = parts.port
    except ValueError:
        parts = None
    if parts is None:  # not raised above: the error there may quote a password that has a slash in it
        raise ValueError("has a host or port that can't be read; in a password write / as %2F, @ as %40")
    login, at, _ = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    return (unquote(name), Secret(unquote(password))) if at else None
