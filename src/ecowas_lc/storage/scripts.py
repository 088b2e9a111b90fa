"""Server-side scripts: one atomic step each, kept as Lua files in the folder ``lua``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest under which a server that has seen it knows it."""

    name: str
    source: bytes
    sha: str


@cache
def load_script(*names: str, name: str = "") -> Script:
    """The script made of these files of the folder ``lua``, in order; called ``name``, or as the last of them."""
    folder = resources.files(__package__).joinpath("lua")
    source = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
    return Script(name or names[-1], source, hashlib.sha1(source, usedforsecurity=False).hexdigest())
