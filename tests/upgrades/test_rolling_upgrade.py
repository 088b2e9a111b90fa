"""A rolling release: processes of an earlier and of this version share a server, and neither misreads data."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.servers import need, running_server

ROOT = Path(__file__).parents[2]
BEFORE = "b1138fd"  # before the first release; later releases are added to it
PROGRAM = ROOT / "tests/upgrades/program.py"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the earlier version, as git has it."""
    command = ["git", "archive", BEFORE, "src"]
    if not (ROOT / ".git").exists():
        need(f"the project's git history, from which {BEFORE} is taken")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        need(f"the commit {BEFORE}: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


class Processes:
    """A process of each version, which run steps in turn; each step opens new connections and savers."""

    def __init__(self, before: Path, url: str) -> None:
        self._running = {}
        for version, source in {"old": before, "new": ROOT / "src"}.items():
            process = self._running[version] = subprocess.Popen(
                [sys.executable, "-W", "ignore", PROGRAM, url],
                cwd=source.parent,
                env={**os.environ, "PYTHONPATH": str(source)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            assert Path(json.loads(process.stdout.readline())).is_relative_to(source)

    def run(self, prefix: str, version: str, *steps: list[Any]) -> list[Any]:
        process = self._running[version]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps([prefix, steps])}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"the {version} version ended, with the code {process.wait(10)}"
        given: list[Any] = json.loads(answer)
        return given

    def close(self) -> None:
        for process in self._running.values():
            process.communicate()


@pytest.fixture(scope="module")
def both(before: Path) -> Iterator[Processes]:
    with running_server("redis") as server:
        running = Processes(before, server.url)
        yield running
        running.close()


Run = Callable[..., list[Any]]


@pytest.fixture
def run(both: Processes) -> Run:
    """Runs steps in a version, under a prefix of the test's own."""
    return partial(both.run, f"t{uuid.uuid4().hex}")


def failed(given: list[Any]) -> list[Any]:
    return [each for each in given if isinstance(each, dict) and "error" in each]


ORDERS = [("old", "new"), ("new", "old")]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_threads(run: Run, first: str, second: str, encrypted: bool) -> None:
    """Threads that both versions continue in turn read the same in both, every value of every step."""
    for number in (1, 3, 5):
        assert not failed(run(first, ["turn", "t", number, encrypted]))
        written = run(second, ["thread", "t", encrypted], ["turn", "t", number + 1, encrypted])
        assert not failed(written)
    [ours], [theirs] = (run(each, ["thread", "t", encrypted]) for each in (first, second))
    assert ours == theirs
    assert f"content='6! {'word ' * 60}'" in ours[0][0]
    assert len(ours) >= 20


@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_waiting_threads_and_upkeep(run: Run, first: str, second: str) -> None:
    """A run that waits in one version is resumed in the other, which also reads its pruned and copied threads."""
    run(first, ["turn", "t", 1], ["turn", "t", 2], ["begin", "t", 3])
    [log] = run(second, ["resume", "t"])
    assert log == ["answer 1", "approved", "answer 2", "approved", "answer 3", "approved"]
    [_, ours] = run(second, ["upkeep", "t"], ["thread", "t"])
    [theirs, copy] = run(first, ["thread", "t"], ["raw", "t-copy"])
    assert ours == theirs
    assert [copy] == run(second, ["raw", "t-copy"])
    assert not failed(run(first, ["turn", "t", 4], ["turn", "t-copy", 4]))
    assert run(first, ["thread", "t"]) == run(second, ["thread", "t"])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_lists_of_threads(run: Run, encrypted: bool) -> None:
    """Threads are listed correctly, whichever version wrote them last; the earlier one reads them."""
    for number, version in enumerate(("new", "old", "new", "old"), start=1):
        assert not failed(run(version, ["turn", "t", number, encrypted]))
        [[row]] = run("new", ["rows", encrypted])
        assert row == ["t", "1? " + "word " * 19 + "w…", 2 * number, []]
        assert not failed(run("old", ["thread", "t", encrypted]))
    if not encrypted:
        for version in ("old", "new"):
            run(version, ["begin", version, 1])
        waiting = [[thread, "1?", 2, ["?"]] for thread in ("new", "old")]
        assert run("new", ["rows"])[0][:2] == waiting


@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_histories_and_sessions(run: Run, first: str, second: str) -> None:
    """Messages, states and session data that both versions write are read by both, in their order."""
    steps = [["history", "energy", "s"], ["memory", "energy", "s"]]
    run(first, ["say", "energy", "s", "one", "two"], ["remember", "energy", "s", "three"])
    run(second, ["say", "energy", "s", "four"], ["remember", "health", "s", "five"])
    run(first, ["say", "energy", "s", "six", "one"])
    ours, theirs = (run(each, *steps) for each in (first, second))
    assert ours == theirs
    assert [each["data"]["content"] for each in ours[0]] == ["one", "two", "three", "four", "six"]
    assert ours[1][4] == ["energy", "health"]
    assert run(second, ["clear", "s"]) == [True]
    emptied = [run(each, *steps) for each in (first, second)]
    assert emptied[0] == emptied[1]
    assert emptied[0][0] == []
    run(first, ["say", "energy", "s", "seven"])
    [again], [same] = (run(each, ["history", "energy", "s"]) for each in (first, second))
    assert again == same
    assert [each["data"]["content"] for each in again] == ["seven"]


@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_sessions_of_the_supervisor(run: Run, first: str, second: str) -> None:
    """A conversation with the supervisor continues in the other version, or is refused there by name."""
    asked = run(first, ["ask", "visit", "What is the electricity tariff in Senegal?"])
    assert not failed(asked)
    [answered] = run(second, ["ask", "visit", "And what about vaccination campaigns?"])
    if isinstance(answered, dict):
        assert first == "new"
        assert answered["error"] in ("TypeNotAllowedError", "CorruptDataError", "FormatVersionError")
        assert "ecowas_lc" in answered["text"]
    else:
        assert len(answered) == 4
        assert answered[:2] == asked[0]


@pytest.mark.parametrize(("first", "second"), ORDERS)
def test_backups(both: Processes, run: Run, tmp_path: Path, first: str, second: str) -> None:
    """Each version imports the other's exports, and reads the same data."""
    run(first, ["turn", "t", 1], ["turn", "t", 2], ["say", "energy", "s", "one", "two"])
    [lines] = run(first, ["lines"])
    file = tmp_path / "backup.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines))
    elsewhere = partial(both.run, f"t{uuid.uuid4().hex}")
    assert elsewhere(second, ["restore", str(file)]) == [True]
    for version in (first, second):
        there = elsewhere(version, ["raw", "t"], ["history", "energy", "s"])
        assert there == run(version, ["raw", "t"], ["history", "energy", "s"])


def test_what_the_earlier_version_can_not_read(run: Run) -> None:
    """The earlier version refuses a value of a newer kind by name, and leaves it unchanged."""
    run("new", ["hit", "t"])
    [error] = run("old", ["raw", "t"])
    assert error["error"] == "CorruptDataError"
    assert "searchitem" in error["text"]
    [read] = run("new", ["raw", "t"])
    assert "likes" in read
