"""``docs/performance.md``: what is between its marks is what was measured; the rest is written by hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.machine import description
from benchmarks.report import Report

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PICTURES = PAGE.parent / "performance"


def write(part: str, report: Report, date: str, load: float) -> None:
    """Put a part's tables and pictures in their place, and say on what machine they were measured."""
    command = " ".join(["python -m benchmarks." + part, *(each for each in sys.argv[1:] if each != "--write")])
    text = PAGE.read_text(encoding="utf-8")
    said = f"Measured on {date} by `{command}`, started at a load of {load:.1f}."
    text = _put(text, part, f"{report.markdown(PICTURES.name)}\n\n{said}")
    text = _put(text, "machine", description())
    PAGE.write_text(text, encoding="utf-8")


def write_targets(targets: Report, date: str, minutes: float, load: float) -> None:
    """Put the table of all targets in its place, after a run of all parts."""
    met = sum(bound.is_met for bound in targets.bounds)
    said = (
        f"{met} of {len(targets.bounds)} are met. Measured on {date} by `make bench`, which took {minutes:.0f} "
        f"minutes and was started at a load of {load:.1f}."
    )
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_put(text, "targets", f"{targets.markdown(PICTURES.name)}\n\n{said}"), encoding="utf-8")


def _put(text: str, mark: str, block: str) -> str:
    begin, end = f"<!-- measured: {mark} -->", f"<!-- end: {mark} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"docs/performance.md has no place for {mark}: {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{block}\n\n{end}", text)
