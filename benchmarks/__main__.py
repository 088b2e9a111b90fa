"""All parts of the benchmarks, one after the other: ``python -m benchmarks [--quick] [--write] [PART …]``."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from benchmarks import page
from benchmarks.part import RESULTS
from benchmarks.report import Bound, Report

PARTS = (
    "savers",
    "growth",
    "operations",
    "shapes",
    "concurrency",
    "neighbours",
    "cluster",
    "scale",
    "replicas",
    "histories",
    "stores",
    "starting",
    "routing",
    "turn",
    "serving",
)


def main() -> None:
    """Run the parts; those that fail are named at the end, and the rest runs all the same."""
    about = "All parts of the benchmarks, one after the other."
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=about)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"only these, of {', '.join(PARTS)}")
    arguments.add_argument("--quick", action="store_true", help="fewer and smaller rounds: a few minutes in all")
    arguments.add_argument("--write", action="store_true", help="also write docs/performance.md and its pictures")
    given = arguments.parse_args()
    if unknown := [name for name in given.parts if name not in PARTS]:
        arguments.error(f"no such part: {', '.join(unknown)}")
    options = [f"--{name}" for name in ("quick", "write") if getattr(given, name)]
    parts = given.parts or PARTS
    failed = []
    load, begun = os.getloadavg()[0], time.monotonic()
    for name in parts:
        print(f"--- {name} ---\n", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    minutes = (time.monotonic() - begun) / 60
    targets = _targets(parts, failed)
    print(f"Took {minutes:.0f} minutes.")
    if given.write and not given.parts:
        page.write_targets(targets, dt.datetime.now(dt.UTC).date().isoformat(), minutes, load)
    if failed:
        raise SystemExit(f"These parts failed: {', '.join(failed)}")


def _targets(parts: Sequence[str], failed: Sequence[str]) -> Report:
    """Show the targets of all parts in one table, and name those that are not met."""
    report = Report(left_out=[f"the targets of {name}, which failed" for name in failed])
    for name in parts:
        if name in failed:
            continue
        saved = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        report.bounds += [Bound(**bound) for bound in saved["bounds"]]
    report.show(Console(width=None if sys.stdout.isatty() else 120))
    if missed := [bound.what for bound in report.bounds if not bound.is_met]:
        print(f"Not met: {'; '.join(missed)}. docs/performance.md shows where the time goes.")
    return report


if __name__ == "__main__":
    main()
