"""Names of models, and proxies for addresses."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_REGISTRY, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"


def canonical_name(name: str) -> str:
    """Return the canonical name of a model.

    Ollama ignores case and fills in what is missing: the tag ``latest``, the namespace ``library`` and its own
    registry. ``Qwen2.5`` is ``registry.ollama.ai/library/qwen2.5:latest``.
    """
    lowered = name.strip().lower().removeprefix("https://").removeprefix("http://")
    rest, colon, tag = lowered.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        rest, tag = lowered, _TAG
    parts = rest.split("/")
    defaults = [_REGISTRY, _NAMESPACE]
    return "/".join([*defaults[: max(0, 3 - len(parts))], *parts]) + f":{tag}"


def is_same_model(one: str, other: str) -> bool:
    """Return whether two names mean the same model on a server."""
    return canonical_name(one) == canonical_name(other)


def is_loopback(address: str) -> bool:
    """Return whether an address is on this machine, which must be reached without a proxy."""
    name = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxy_for(address: str) -> str | None:
    """Return the environment variable that sets a proxy for an address, or ``None`` if none does."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if not parts.hostname or is_loopback(address) or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()  # the same source that httpx uses
    return next((f"{scheme.upper()}_PROXY" for scheme in (parts.scheme, "all") if scheme in proxies), None)
