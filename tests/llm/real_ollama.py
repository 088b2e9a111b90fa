"""Run the tests that concern models against a real Ollama and print a table: ``make ollama``.

``TEST_OLLAMA_URL`` names the server (by default the one that Ollama's own client uses), ``TEST_OLLAMA_MODEL`` the
model: ``smollm2:135m`` by default, which the recorded exchanges are of.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx

from ecowas_lc.settings import address_from_host

ROOT = Path(__file__).parents[2]
MODEL = "smollm2:135m"
TESTS = ("tests/llm", "tests/agents/test_with_a_real_model.py")


def rows_of(report: Path) -> list[tuple[str, str, str]]:
    """The tests' results by file."""
    outcomes: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for case in ET.parse(report).getroot().iter("testcase"):
        file = case.get("classname", "").replace(".", "/").partition("/Test")[0]
        found = next((name for name in ("failure", "error", "skipped") if case.find(name) is not None), "passed")
        outcomes.setdefault(file, Counter())[found] += 1
        seconds[file] += round(float(case.get("time", 0)))
    return [
        (file, ", ".join(f"{number} {what}" for what, number in counts.items()), str(seconds[file]))
        for file, counts in outcomes.items()
    ]


def main() -> int:
    """Run the tests, ``doctor`` and the demo; the exit code is 1 if one of them failed."""
    url = os.environ.get("TEST_OLLAMA_URL") or address_from_host(os.environ.get("OLLAMA_HOST") or "localhost")
    model = os.environ.get("TEST_OLLAMA_MODEL", MODEL)
    try:
        version = httpx.get(f"{url}/api/version").json()["version"]
        models = [entry["name"] for entry in httpx.get(f"{url}/api/tags").json()["models"]]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        print(f"No Ollama answers at {url} ({error}). Start it with `ollama serve`, or set TEST_OLLAMA_URL.")
        return 1
    if model not in models:
        print(f"Ollama at {url} lacks {model}. Get it with `ollama pull {model}`, or set TEST_OLLAMA_MODEL.")
        return 1
    os.environ |= {"TEST_OLLAMA_URL": url, "TEST_OLLAMA_MODEL": model}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *TESTS]
        failed = subprocess.run(command, cwd=ROOT, check=False).returncode != 0
        rows = rows_of(report) if report.exists() else []
        environment = {**os.environ, "OLLAMA_BASE_URL": url, "OLLAMA_MODEL": model, "ECOWAS_LC_DATA_DIR": folder}
        for subcommand in ("doctor", "demo"):
            begun = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-m", "ecowas_lc.cli", subcommand], cwd=folder, env=environment, check=False
            ).returncode
            rows.append((f"ecowas-lc {subcommand}", f"exit code {code}", f"{time.monotonic() - begun:.0f}"))
            failed = failed or code != 0
    print(f"\nOllama {version} at {url}, {model}\n")
    width = max(len(name) for name, _, _ in rows)
    for name, outcome, seconds in rows:
        print(f"{name:<{width}}  {outcome:<32}  {seconds:>5} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
