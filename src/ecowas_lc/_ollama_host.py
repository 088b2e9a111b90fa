"""``OLLAMA_HOST``, parsed as Ollama's own client parses it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def address_from_host(host: str) -> str:
    """Return the address that ``OLLAMA_HOST`` names, parsed as Ollama's own client does.

    Scheme and port are optional (``http``; 11434, or the scheme's default port if a scheme is given). ``0.0.0.0``
    and ``[::]``, which a server listens on but a client can't connect to, mean this machine.
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default = {"http": 80, "https": 443}.get(scheme.lower(), 11434) if separator else 11434
    parts = urlsplit(f"{scheme}://{rest}")
    name = parts.hostname or "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            name = "127.0.0.1" if address.version == 4 else "::1"
        name = f"[{name}]" if ":" in name else name
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    path = f"/{path}" if (path := parts.path.strip("/")) else ""
    return f"{scheme}://{login}{name}:{parts.port or default}{path}"
