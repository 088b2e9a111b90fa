"""``constraints.txt`` holds for every Python that the package supports."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.packaging.installed import ROOT


def test_every_pin_can_be_installed_with_the_oldest_python() -> None:
    """No pinned release refuses the first release of the oldest Python: Debian 12 has Python 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    checked, refused = 0, {}
    for name, version in pins.items():
        try:
            found = distribution(canonicalize_name(name))
        except PackageNotFoundError:  # of another group
            continue
        if found.version != version:  # with the lowest and the newest versions
            continue
        checked += 1
        needed = found.metadata.get("Requires-Python") or ""
        if oldest not in SpecifierSet(needed, prereleases=True):
            refused[f"{name}=={version}"] = needed
    assert refused == {}, f"pin releases that support Python {oldest}"
    assert checked
