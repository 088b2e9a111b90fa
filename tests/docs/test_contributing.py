"""The pages for contributors are correct: the workflow runs make targets, and named files exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from scripts.architecture import PICTURE, imports

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
CHANGES = "docs/contributing/where-does-a-change-go.md"
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_workflow_is_valid() -> None:
    """The workflow file passes the schema of GitHub Actions."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_step_of_the_workflow_is_a_make_target() -> None:
    """You can run each step on your own machine."""
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    for name, job in jobs.items():
        values = [value for values in job.get("strategy", {}).get("matrix", {}).values() for value in values]
        for step in job["steps"]:
            if "run" not in step:
                assert step["uses"].startswith("actions/")
                continue
            words = step["run"].removeprefix("sudo ").split()
            assert words[0] == "make", f"{name}: {step['run']}"
            targets = values if words[1] == "${{" else words[1:2]
            assert set(targets) <= TARGETS, f"{name}: {step['run']}"


def test_hooks_before_a_commit_are_those_of_make_check() -> None:
    """`make check` and pre-commit run the same checks, so neither finds what the other misses."""
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    checked = {line.split("/")[1].split()[0] for line in recipe[1].splitlines()}
    [repo] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {Path(hook["entry"].split()[0]).name for hook in repo["hooks"]} == checked


def test_the_picture_of_the_architecture_is_of_this_code() -> None:
    """The picture shows today's imports: after a change, run `make architecture`."""
    titles = re.findall(r"<title>([^<]+)</title>", PICTURE.read_text(encoding="utf-8"))
    drawn = {tuple(title.split("&#45;&gt;")) for title in titles if "&#45;&gt;" in title}
    assert drawn == imports()


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", CHANGES])
def test_files_and_targets_that_a_page_names_exist(page: str) -> None:
    """Each file, folder or make target that a page names exists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in TARGETS, target
    for name in re.findall(r"`([\w./-]+(?:\.(?:py|lua|md|toml|yml)|/))`", text):
        ends = [path.as_posix() for path in (ROOT / "src").rglob(Path(name).name)]
        assert (ROOT / name).exists() or any(f"{end}/".endswith(f"/{name.rstrip('/')}/") for end in ends), name
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link


def test_a_change_touches_few_places() -> None:
    """Twenty likely changes are listed, and none of them touches more than three places in the code."""
    rows = [
        line.split("|")
        for line in (ROOT / CHANGES).read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| change")
    ]
    assert len(rows) >= 20
    for _, change, code, _ in rows:
        assert len(re.findall(r"`[\w/]+\.(?:pyi?|lua)`", code)) <= 3, change


def test_the_architecture_says_where_a_change_starts() -> None:
    """ARCHITECTURE names every package, and with it each module in which one of the listed changes is made."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("## The packages")[2].partition("## ")[0]
    lines = [" ".join(line.split()) for line in section.split("\n- ")[1:]]
    for package in {path.parent.name for path in (ROOT / "src" / "ecowas_lc").glob("*/__init__.py")} - {"testing"}:
        assert [line for line in lines if f"`{package}/`" in line.partition(":")[0]], package
    for path in re.findall(r"`((?!tests/)[\w/]+\.py)`", (ROOT / CHANGES).read_text(encoding="utf-8")):
        package, _, module = path.rpartition("/")
        named = [line for line in lines if not package or f"`{package.split('/')[0]}/`" in line.partition(":")[0]]
        last = package.rpartition("/")[2]
        assert any(f"{module}`" in line or (last != package and f"`{last}/`" in line) for line in named), path


# Each package has its own, and all of them are the same thing: the service, the backup, the command of a subject.
PARALLEL_FILES = {"__init__", "__main__", "app", "backup", "listing", "reindex", "service"}
# The JSON API's models, the command line's options and the two conformance suites name what they hold or check.
PARALLEL_CLASSES = ("web.api", "cli.options", "cli.commands", "testing.")


def test_a_name_stands_for_one_thing() -> None:
    """Modules define a class or alias of one name in one way only, and files of one name are one kind of thing."""
    files: dict[str, list[str]] = defaultdict(list)
    meanings: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted((ROOT / "src" / "ecowas_lc").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src" / "ecowas_lc").with_suffix("").parts)
        if not module.startswith("cli.") and path.stem not in PARALLEL_FILES:
            files[path.stem].append(module)
        if module.startswith(PARALLEL_CLASSES):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                meanings[node.name][module] = module
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name[:1].isupper() and not name.isupper():
                    meanings[name][module] = ast.unparse(node.value)
    assert {name: modules for name, modules in files.items() if len(modules) > 1} == {}
    assert {name: found for name, found in meanings.items() if len(set(found.values())) > 1} == {}
