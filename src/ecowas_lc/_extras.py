"""The install commands of extras. The package is not on an index, so its name alone can't be installed."""

from __future__ import annotations

import re
import shlex

_OF_AN_EXTRA = re.compile(r"(?P<requirement>[^;]+?)\s*;.*\bextra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")


def install_command(*extras: str) -> str:
    """Return the command that installs the packages of extras, for however this package was installed.

    Args:
        *extras: The names of the extras, such as ``draw``.
    """
    from importlib import metadata  # a slow import that only messages need

    try:
        requirements = metadata.requires("ecowas-lc") or []
    except metadata.PackageNotFoundError:  # a checkout on PYTHONPATH
        requirements = []
    matches = filter(None, map(_OF_AN_EXTRA.match, requirements))
    needed = [match["requirement"] for match in matches if match["extra"] in extras]
    return shlex.join(["pip", "install", *(needed or [f".[{','.join(extras)}]"])])
