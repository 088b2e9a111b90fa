"""Builds the distributions, and installs the wheel into environments with nothing but its declared dependencies.

Dependencies are taken from this environment, where constraints.txt pinned them: the installed files of each
distribution in the closure of the wheel's metadata are linked. So no network is needed, and nothing else can be
imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackagePath, PathDistribution, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fixtures.servers import need

ROOT = Path(__file__).parents[2]
SECONDS = 100.0


def built(folder: Path) -> tuple[Path, Path]:
    """The sdist of this tree, and the wheel built from that sdist, in ``folder``."""
    _hatch(ROOT, folder, "sdist")
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Debian 12's Python 3.11.2 knows no filters, and Python 3.12 requires one
        archive.extractall(folder / "unpacked", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    [tree] = (folder / "unpacked").iterdir()
    _hatch(tree, folder, "wheel")
    [wheel] = folder.glob("*.whl")
    return sdist, wheel


def _hatch(tree: Path, folder: Path, target: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Installed:
    """An environment in ``folder`` with the wheel and some of its extras."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        [found] = self.folder.glob("lib/python*/site-packages")
        return found

    @property
    def distribution(self) -> Distribution:
        """The installed wheel."""
        [metadata] = self.site.glob("ecowas_lc-*.dist-info")
        return PathDistribution(metadata)

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment outside the source tree, with only ``settings`` in its environment."""
        program = [str(self.folder / "bin" / command[0]), *command[1:]]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ours = {"ECOWAS_LC_DATA_DIR": str(self.folder / "data"), "ECOWAS_LC_LINGER_SECONDS": "0"}
        return subprocess.run(
            program,
            cwd=self.folder,
            env=kept | ours | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def says(self, code: str, **settings: str) -> str:
        """The output of ``code``, which must not warn or write to standard error."""
        done = self.run("python", "-W", "error", "-c", code, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
        return done.stdout


def installed(wheel: Path, folder: Path, *extras: str) -> Installed:
    """The wheel, installed by pip, with the dependencies of these extras, in a separate environment."""
    environment = _empty(folder)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment.python)]
    done = subprocess.run(
        [*command, "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _link(closure(environment.distribution, extras, set()), environment.site)
    return environment


def with_extra(core: Installed, folder: Path, extra: str) -> Installed:
    """The contents of ``core`` and an extra in a separate environment, quicker than by pip; without programs."""
    environment = _empty(folder)
    _link([core.distribution, *closure(core.distribution, (extra,), set())], environment.site)
    return environment


def _empty(folder: Path) -> Installed:
    venv.create(folder, symlinks=True)
    return Installed(folder)


def closure(of: Distribution, extras: tuple[str, ...], seen: set[tuple[str, str]]) -> Iterator[Distribution]:
    """Every distribution that ``of`` needs with these extras, and their dependencies; each once or more."""
    for line in of.requires or []:
        requirement = Requirement(line)
        for extra in ("", *extras):
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            wanted = {(canonicalize_name(requirement.name), name) for name in ("", *requirement.extras)}
            if wanted <= seen:
                continue
            seen |= wanted
            found = of if requirement.name == of.name else _pinned(requirement.name)
            if found is not of:
                assert requirement.specifier.contains(found.version, prereleases=True), f"{line}: {found.version}"
                yield found
            yield from closure(found, tuple(requirement.extras), seen)


def _pinned(name: str) -> Distribution:
    try:
        return distribution(name)
    except ModuleNotFoundError:
        need(f"{name} (pip install -c constraints.txt {name})")
        raise


def _link(all_needed: Iterable[Distribution], site: Path) -> None:
    """Make what these distributions install importable in ``site``: whole folders if only one has them."""
    found: dict[str, dict[str, list[PackagePath]]] = {}
    for needed in all_needed:
        for file in needed.files or ():
            if ".." not in file.parts:  # else it is a program
                found.setdefault(file.parts[0], {}).setdefault(needed.name, []).append(file)
    for name, by_owner in found.items():
        if len(by_owner) == 1:
            [[file, *_]] = by_owner.values()
            where = Path(str(file.locate()))
            (site / name).symlink_to(where.parents[len(file.parts) - 2] if len(file.parts) > 1 else where)
            continue
        for file in chain.from_iterable(by_owner.values()):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            if not (site / file).exists():
                (site / file).symlink_to(Path(str(file.locate())))
