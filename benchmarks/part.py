"""One part of the benchmarks as a command: its arguments, and where its results go."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import page
from benchmarks.contenders import COMPARED, CONTENDERS, missing
from benchmarks.report import Report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "bench"

Options = argparse.Namespace


def numbers(text: str) -> list[int]:
    """``30,200,800`` as numbers."""
    return [int(each) for each in text.split(",")]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every part takes."""
    about = (description or "").partition(":")[0] + "."
    out = argparse.ArgumentParser(prog=f"python -m benchmarks.{Path(sys.argv[0]).stem}", description=about)
    out.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    out.add_argument("--rounds", type=int, help="how many rounds (the default depends on the part)")
    out.add_argument("--savers", help=f"only these, with commas between: {', '.join(COMPARED)}")
    out.add_argument(
        "--write", action="store_true", help="also write tables and pictures into docs/performance.md"
    )
    return out


def chosen(options: Options, *wanted: str) -> tuple[list[str], list[str]]:
    """The contenders that were asked for (of ``wanted``; default: all) and can run, and why others can't."""
    given = options.savers.split(",") if options.savers else list(wanted or COMPARED)
    if unknown := [name for name in given if name not in CONTENDERS]:
        raise SystemExit(f"No such saver: {', '.join(unknown)}. There are: {', '.join(COMPARED)}.")
    why = {name: missing(CONTENDERS[name]) for name in CONTENDERS if name in given}
    return [name for name in why if not why[name]], [reason for reason in why.values() if reason]


def main(measure: Callable[[Options], Report], arguments: argparse.ArgumentParser) -> None:
    """Run a part, print what it found, and save it."""
    options = arguments.parse_args()
    options.pictures = page.PICTURES if options.write else RESULTS
    options.pictures.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    name = Path(sys.argv[0]).stem
    load = os.getloadavg()[0]
    begun = time.monotonic()
    report = measure(options)
    taken = time.monotonic() - begun
    report.show(console)
    console.print(f"[dim]{name}: {taken:.0f} s[/dim]\n", highlight=False)
    date = dt.datetime.now(dt.UTC).date().isoformat()
    about: dict[str, Any] = {"part": name, "date": date, "seconds": round(taken), "load": load}
    saved = json.dumps({**about, **report.as_json()}, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(saved + "\n", encoding="utf-8")
    if options.write:
        page.write(name, report, date, load)
