"""``export`` and ``import``: an import restores what the file holds, and only its owner can read the file."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ecowas_lc import AsyncRedisMemoryService, RedisMemoryService, RedisSaver, RedisStore
from ecowas_lc.errors import CorruptDataError, InvalidInputError
from ecowas_lc.storage.backup_format import LONGEST_LINE
from tests.cli.conftest import Run, process
from tests.fixtures.servers import RunningServer
from tests.redis.test_checkpoint_upkeep import everything, grow


@pytest.fixture
def saver(redis_server: RunningServer, prefix: str, environment: pytest.MonkeyPatch) -> RedisSaver:
    """Two sessions: ``first`` has a thread, a history and data; ``second`` has only a history."""
    memory = RedisMemoryService(url=redis_server.url, prefix=prefix)
    for session in ("first", "second"):
        memory.append_to_history("energy", session, {"role": "user", "content": f"Hello {session} é"})
    memory.set_session_data("first", "language", "fr")
    memory.save_agent_state("energy", {"briefed": True})
    memory.close()
    saver = RedisSaver.from_url(redis_server.url, prefix=prefix)
    grow(saver, "first", steps=3)
    grow(saver, "other", steps=2)
    return saver


def empty(redis_server: RunningServer, prefix: str) -> None:
    with redis_server.client() as client:
        client.delete(*client.scan_iter(f"{prefix}:*"))


def types_in(text: str) -> list[str]:
    kinds = [json.loads(line).get("type") for line in text.splitlines()]
    return [kind for kind in kinds if kind not in (None, "thread-contents", "thread-end")]


def test_everything_and_back(run: Run, saver: RedisSaver, redis_server: RunningServer, prefix: str) -> None:
    """One file holds histories, states, data and threads; importing it restores all, once."""
    before = {thread: everything(saver, thread) for thread in ("first", "other")}
    exported = run("sessions", "export", "-o", "all.jsonl")
    assert (exported.code, exported.out) == (0, "")
    assert exported.err == (
        "Exported 2 histories, 1 agent's state, 1 value of a session, 2 threads to all.jsonl.\n"
    )
    assert Path("all.jsonl").stat().st_mode & 0o777 == 0o600
    empty(redis_server, prefix)
    assert run("sessions", "import", "all.jsonl").out == "6 written, 0 unchanged.\n"
    assert {thread: everything(saver, thread) for thread in ("first", "other")} == before
    shown = json.loads(run("sessions", "show", "first", "--json").out)
    assert shown["histories"]["energy"] == [{"speaker": "user", "text": "Hello first é"}]
    assert shown["data"] == {"language": "fr"}
    again = json.loads(run("sessions", "import", "all.jsonl", "--json").out)
    assert again == {"written": 0, "unchanged": 6, "kept": [], "passed_over": 0}


def test_one_session(run: Run, saver: RedisSaver) -> None:
    """Exporting a session includes its data and its thread, and nothing else."""
    assert types_in(run("sessions", "export", "first").out) == ["history", "session-data", "thread"]
    assert types_in(run("sessions", "export", "second").out) == ["history"]
    report = json.loads(run("sessions", "export", "first", "second", "-o", "two.jsonl", "--json").out)
    assert report.pop("file") == str(Path("two.jsonl").resolve())
    assert report == {"history": 2, "state": 0, "session_data": 1, "thread": 1, "item": 0}


def test_items_of_stores(run: Run, saver: RedisSaver) -> None:
    """An export of everything holds the items of every collection; imports restore them, and stats count them."""
    prefix = saver._keys.prefix
    for collection in ("store", "other"):
        with RedisStore(server=saver._server, prefix=prefix, collection=collection) as store:
            store.put(("memories", "ama"), "k", {"in": collection})
    assert json.loads(run("stats", "--json").out)["items"] == 2
    assert json.loads(run("sessions", "export", "-o", "all.jsonl", "--json").out)["item"] == 2
    for collection in ("store", "other"):
        with RedisStore(server=saver._server, prefix=prefix, collection=collection) as store:
            store.clear(())
    assert run("sessions", "import", "all.jsonl").out.startswith("2 written")
    with RedisStore(server=saver._server, prefix=prefix, collection="other") as store:
        assert store.get(("memories", "ama"), "k").value == {"in": "other"}  # type: ignore[union-attr]


def test_threads_alone(run: Run, saver: RedisSaver) -> None:
    """``threads`` exports and imports only threads; it skips other records in the file and says so."""
    assert types_in(run("threads", "export", "other").out) == ["thread"]
    run("sessions", "export", "-o", "all.jsonl")
    saver.delete_thread("other")
    ended = run("threads", "import", "all.jsonl")
    assert ended.out == "1 written, 1 unchanged.\n"
    assert "4 records skipped" in ended.err


def test_what_differs_stays_unless_told_otherwise(run: Run, saver: RedisSaver) -> None:
    """Data that has changed since the export is kept and named; only ``--overwrite`` replaces it."""
    before = everything(saver, "other")
    run("threads", "export", "-o", "old.jsonl")
    grow(saver, "other", steps=4)
    ended = run("threads", "import", "old.jsonl")
    assert (ended.code, ended.out) == (0, "0 written, 1 unchanged.\n")
    assert "Not overwritten, because it differs: thread other. Pass --overwrite" in ended.err
    assert run("threads", "import", "old.jsonl", "--overwrite").out == "1 written, 1 unchanged.\n"
    assert everything(saver, "other") == before


def test_compressed(run: Run, saver: RedisSaver) -> None:
    """A name ending in .gz compresses the file; import detects compression, and names a cut or damaged file."""
    assert run("threads", "export", "-o", "t.jsonl.gz").code == 0
    packed = Path("t.jsonl.gz").read_bytes()
    assert types_in(gzip.decompress(packed).decode()) == ["thread", "thread"]
    Path("unmarked").write_bytes(packed)
    assert run("threads", "import", "unmarked").out == "0 written, 2 unchanged.\n"
    for bad in (packed[: len(packed) // 2], packed[:100] + b"\0\0\0\0" + packed[104:]):
        Path("bad").write_bytes(bad)
        ended = run("threads", "import", "bad")
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


def test_a_pipe_moves_everything(saver: RedisSaver, redis_server: RunningServer, prefix: str) -> None:
    """Export to standard output and import from standard input move everything elsewhere."""
    exported = process("sessions", "export")
    assert exported.returncode == 0
    env = {**os.environ, "ECOWAS_LC_PREFIX": f"{prefix}-other"}
    imported = process("sessions", "import", "-", input=exported.stdout, env=env)
    assert (imported.returncode, imported.stdout) == (0, "6 written, 0 unchanged.\n")
    other = RedisSaver.from_url(redis_server.url, prefix=f"{prefix}-other")
    assert everything(other, "first") == everything(saver, "first")


def test_bad_files(run: Run, saver: RedisSaver) -> None:
    """A truncated file, one that is not text, or one of a newer version is named in one line, exit code 2."""
    run("threads", "export", "-o", "good.jsonl")
    lines = Path("good.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    saver.delete_thread("first")
    for number, (content, message) in enumerate(
        {
            "".join(lines[:-1]).encode(): "is incomplete",
            b"".join((lines[0].encode(), b"\xff\xfe\n")): "not UTF-8",
            b"": "nothing to import",
            b'{"format": "ecowas-lc", "version": 99}': "Install a newer",
            b'{"format": "ecowas-lc", "version": 1}\n{"type": "threat"}': "Line 2 can't be imported",
        }.items()
    ):
        Path(f"bad{number}").write_bytes(content)
        for kind in ("threads", "sessions"):
            ended = run(kind, "import", f"bad{number}")
            assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
            assert message in ended.err


def test_a_failed_export_leaves_the_file(run: Run, saver: RedisSaver, environment: pytest.MonkeyPatch) -> None:
    """If an export fails, the previous file is unchanged and no temporary file remains."""
    Path("backup.jsonl").write_text("the last one")
    assert run("threads", "export", "none", "-o", "backup.jsonl").code == 1
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert run("threads", "export", "-o", "backup.jsonl").code == 1
    assert [path.name for path in Path().iterdir()] == ["backup.jsonl"]
    assert Path("backup.jsonl").read_text() == "the last one"


@pytest.mark.parametrize("arguments", [["export", "-o", "t.jsonl"], ["import", "old.jsonl"]], ids=" ".join)
def test_progress_is_shown_on_a_terminal(run: Run, saver: RedisSaver, arguments: list[str]) -> None:
    """A progress bar appears on standard error only if that is a terminal."""
    quiet = run("threads", "export", "-o", "old.jsonl")
    assert "━" not in quiet.err
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "ecowas_lc.cli", "threads", *arguments]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=env) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                bit = os.read(ours, 4096)
            except OSError:
                break
            if not bit:
                break
            shown += bit
        assert running.wait(60) == 0
    os.close(ours)
    assert "━" in shown.decode()


# How much memory a hostile file may use: what the program uses at its start, plus this.
BOUNDED = """
import re, resource, sys
from ecowas_lc.cli import main, commands, backups
import ecowas_lc.checkpoint, ecowas_lc.memory, ecowas_lc.store
held = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (held + 700 * 2**20,) * 2)
sys.argv = ["ecowas-lc", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("sessions", "a gzip bomb"),
        ("threads", "a line without end"),
        ("threads", "packed, with a limit of its own"),
    ],
)
def test_no_line_is_read_without_end(
    redis_server: RunningServer, prefix: str, tmp_path: Path, kind: str, what: str
) -> None:
    """A small file that unpacks to gigabytes, or a line without end, is refused within little memory."""
    line = b'{"type": "history", "messages": "'
    if kind == "a line without end":
        source = tmp_path / "endless"
        os.mkfifo(source)
        feeder = subprocess.Popen([sys.executable, "-c", FEEDER, str(source)])
    else:
        feeder = None
        source = tmp_path / "bomb.gz"
        with gzip.open(source, "wb", compresslevel=1) as file:
            file.write(b'{"format": "ecowas-lc", "version": 1}\n' + line)
            for _ in range(40 if kind == "a gzip bomb" else 12):
                file.write(b"a" * 2**23)
    try:
        arguments = [what, "import", str(source), *(["--longest-line", "8"] if "packed" in kind else [])]
        done = subprocess.run(
            [sys.executable, "-c", BOUNDED, *arguments],
            env={**os.environ, "REDIS_URL": redis_server.url, "ECOWAS_LC_PREFIX": prefix, "COLUMNS": "300"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    finally:
        if feeder is not None:
            feeder.kill()
            feeder.wait()
    assert done.returncode == 2, done.stderr[-800:]
    assert "is longer than" in done.stderr
    assert "--longest-line" in done.stderr


FEEDER = """
import sys
with open(sys.argv[1], "wb") as file:
    while True:
        file.write(b"a" * 2**20)
"""


async def test_files_handed_to_the_package(redis_server: RunningServer, prefix: str, tmp_path: Path) -> None:
    """An open file that Python code hands over is read no further either; other lines are its own to bound."""
    long = tmp_path / "long"
    long.write_text('{"format": "ecowas-lc", "version": 1}\n{"type": "' + "a" * (LONGEST_LINE + 1))
    async with AsyncRedisMemoryService(url=redis_server.url, prefix=prefix) as memory:
        with long.open() as file, pytest.raises(InvalidInputError, match="Line 2 is longer"):
            await memory.import_jsonl(file)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        with long.open() as file, pytest.raises(InvalidInputError, match="Line 2 is longer"):
            saver.import_jsonl(file)
        with long.open() as file, pytest.raises(CorruptDataError, match="not JSON"):
            saver.import_jsonl(line for line in file)
