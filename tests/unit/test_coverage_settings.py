"""``make coverage`` leaves out little, each part with a reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 40
EXCLUSION = re.compile(r"#\s*pragma:\s*no\s*(?:cover|branch)\b(?P<rest>.*)")
REASON = re.compile(r" - \S+ \S+")

SETTINGS = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
COVERAGE = tomllib.loads(SETTINGS)["tool"]["coverage"]


def exclusions() -> list[tuple[str, str]]:
    """Every exclusion in the package's code: its position and the text after it."""
    found = []
    for file in sorted((ROOT / "src").rglob("*.py")):
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
            if match := EXCLUSION.search(line):
                found.append((f"{file.relative_to(ROOT)}:{number}", match["rest"]))
    return found


def test_few_lines_are_excluded_each_with_a_reason() -> None:
    """Code and configuration together have at most 40 exclusions, and each states its reason."""
    report, run = COVERAGE["report"], COVERAGE["run"]
    assert not {"omit", "exclude_lines", "partial_branches"} & {*report, *run}, "exclude_also is what is counted"
    found = exclusions()
    assert len(found) + len(report["exclude_also"]) <= MOST
    assert not [where for where, rest in found if not REASON.match(rest)]
    patterns = SETTINGS.partition("exclude_also = [\n")[2].partition("\n]")[0].split("\n")
    assert len(patterns) == len(report["exclude_also"])
    assert not [pattern for pattern in patterns if not re.search(r'",  # \S+ \S+', pattern)]


def test_branches_and_child_processes_count() -> None:
    """The package is measured with branches, here and in the processes that it starts; 95 % is the least."""
    assert COVERAGE["run"]["branch"]
    assert COVERAGE["run"]["source_pkgs"] == ["ecowas_lc"]
    assert "subprocess" in COVERAGE["run"]["patch"]
    assert COVERAGE["report"]["fail_under"] >= 95
