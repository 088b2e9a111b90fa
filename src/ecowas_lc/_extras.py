"""How to install what an extra needs: nothing is published on an index, so no name stands for the package."""

from __future__ import annotations

import re
import shlex

_OF_AN_EXTRA = re.compile(r"(?P<requirement>[^;]+?)\s*;.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, however this package was installed itself.

    Args:
        extra: its name, such as ``draw``.
    """
    from importlib import metadata  # which takes a while, and only messages need it

    try:
        requirements = metadata.requires("ecowas-lc") or []
    except metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        requirements = []
    matches = filter(None, map(_OF_AN_EXTRA.match, requirements))
    needed = [match["requirement"] for match in matches if match["extra"] == extra]
    return shlex.join(["pip", "install", *(needed or [f".[{extra}]"])])
