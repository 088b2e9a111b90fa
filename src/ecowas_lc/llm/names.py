"""Names of models, and what stands between us and an address."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_REGISTRY, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"


def canonical_name(name: str) -> str:
    """Return the one name of a model that may be written in several ways.

    Ollama makes no difference between capitals and small letters, and adds what is left out: the tag ``latest``,
    the namespace ``library`` and its own registry. ``Qwen2.5`` is ``registry.ollama.ai/library/qwen2.5:latest``.
    """
    lowered = name.strip().lower().removeprefix("https://").removeprefix("http://")
    rest, colon, tag = lowered.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        rest, tag = lowered, _TAG
    parts = rest.split("/")
    defaults = [_REGISTRY, _NAMESPACE]
    return "/".join([*defaults[: max(0, 3 - len(parts))], *parts]) + f":{tag}"


def is_same_model(one: str, other: str) -> bool:
    """Return whether two names are one model on a server."""
    return canonical_name(one) == canonical_name(other)


def is_loopback(address: str) -> bool:
    """Return whether an address is on this machine, where no proxy belongs before it."""
    name = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxy_for(address: str) -> str | None:
    """Return the variable of the environment that puts a proxy before an address, ``None`` where none does."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if not parts.hostname or is_loopback(address) or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()  # where httpx looks
    return next((f"{scheme.upper()}_PROXY" for scheme in (parts.scheme, "all") if scheme in proxies), None)
