"""Whatever ids, messages, answers or backups contain, no output can control the terminal."""

from __future__ import annotations

import ast
import json
import os
import pty
import select
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table

import ecowas_lc.cli
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.cli.screen import confirmed, labelled, remark, say, show_rows
from ecowas_lc.cli.terminal import clean, json_text, one_line, out
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.memory import RedisMemoryService
from tests.cli.conftest import Run
from tests.cli.test_screen import shown, terminal
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import RunningServer
from tests.redis.writer import Writer

C0 = "".join(map(chr, [*range(9), *range(11, 32)]))
C1 = "".join(map(chr, range(0x7F, 0xA0)))
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EVIL = (
    f"x\x1b]0;owned\x07\x1b]52;c;cm0=\x1b\\\x1b[2J\x1bP1$r\x1b\\\x9b31mAll is well{C0}{C1}{BIDI}[red]:bomb:[/red]"
)
# What rich itself sends for colours, the cursor and progress bars.
OURS = "\x1b["


def steering(text: str) -> set[str]:
    """Characters of a text that could control a terminal, except rich's own CSI sequences and line ends."""
    found = {each for each in (*C0, *C1, *BIDI) if each in text} - {"\r", "\x1b"}
    if any(not text.startswith(OURS, index) for index, each in enumerate(text) if each == "\x1b"):
        found.add("ESC")
    if "\x1b[2J" in text or "\x1b[31mAll" in text:
        found.add("CSI")
    return found


def test_what_is_taken_out() -> None:
    """Text keeps its letters, line ends and tabs; JSON keeps its meaning; control characters are removed."""
    assert clean(f"a{C0}{C1}{BIDI}b\n\tç \u200e会\ud800") == "ab\n\tç \u200e会\ufffd"
    assert one_line("a\nb\tc") == "a␊b␉c"
    value = {"id": EVIL + "\ud800", "text": "ç\n"}
    text = json_text(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert steering(text) == set()
    text.encode()


def test_every_way_to_print() -> None:
    """Titles, tables of ours and of rich's, labels, progress and plain output are cleaned by the console."""
    console = terminal(100)
    console.print(EVIL)
    console.out(EVIL)
    labelled(EVIL, EVIL, 9, console)
    show_rows((EVIL, "n"), [(EVIL, EVIL)], (EVIL, [EVIL]), console)
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    console.print(table)
    with Progress(console=console) as bar:
        bar.add_task(EVIL.replace("[red]", "").replace("[/red]", ""), total=2)
    assert steering(shown(console)) == set()
    assert ":bomb:" in shown(console), "and nothing is read as markup"


def test_remarks_results_and_questions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both outputs are clean, and so is every question that asks for confirmation."""
    remark(EVIL)
    say(EVIL)
    typed = StringIO("n\n")
    typed.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", typed)
    assert not confirmed(EVIL, yes=False)
    said = "".join(capsys.readouterr())
    assert said.count("All is well") == 3
    assert steering(said) == set()
    monkeypatch.setattr(sys, "stdin", StringIO())
    with pytest.raises(ConfigurationError):
        confirmed(EVIL, yes=False)


def test_a_row_is_one_row() -> None:
    """An id with a line end can't add a row to a table, and a long one takes a limited line."""
    console = terminal(80)
    show_rows(("session", "n"), [("a\nquickstart  99", "1"), ("y" * 5000, "2")], console=console)
    lines = shown(console).splitlines()
    assert not [line for line in lines if line.startswith("quickstart")]
    assert max(map(len, lines)) == 200
    pipe = out(file=StringIO())
    show_rows(("session", "n"), [("y" * 5000, "2")], console=pipe)
    assert max(map(len, shown(pipe).splitlines())) < 250


def test_one_module_writes() -> None:
    """No other module of the command writes to the terminal or creates a console, which would be unfiltered."""
    folder = Path(ecowas_lc.cli.__file__).parent
    found = []
    for module in folder.glob("*.py"):
        if module.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in ("print", "Console", "typer.echo", "typer.secho", "traceback.print_exception") or (
                    called.startswith(("sys.stdout.", "sys.stderr."))
                    and called.endswith((".write", ".writelines"))
                ):
                    found.append(f"{module.name}: {called}")
    assert found == ["__init__.py: sys.stderr.write"], "which says that rich itself is missing"


@pytest.fixture
def hostile(environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, tmp_path: Path) -> Path:
    """Sessions, histories, data and a thread with hostile ids and texts, and a backup of the same kind."""
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as memory:
        memory.append_to_history(EVIL, EVIL, {"role": "user", "content": EVIL})
        memory.append_to_history("energy", "plain", {"role": "assistant", "content": EVIL})
        memory.set_session_data("plain", EVIL, EVIL)
    with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
        writer = Writer(saver, EVIL)
        writer.put(messages=[("user", EVIL)])
        writer.put(messages=[("user", EVIL), ("ai", EVIL)])
    record = {"type": "history", "agent": EVIL, "session": "s", "ttl_seconds": 60}
    lines = [{"format": "ecowas-lc", "version": 1}]
    lines += [{**record, "messages": [{"role": "user", "content": text}]} for text in ("one", "two")]
    file = tmp_path / "backup.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return file


def on_a_terminal(*arguments: str, answer: bytes = b"") -> str:
    """The bytes that the command writes to a terminal, both outputs together."""
    master, slave = pty.openpty()
    command = [sys.executable, "-P", "-m", "ecowas_lc.cli", *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    os.write(master, answer)
    said, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                said += os.read(master, 65536)
            except OSError:  # it has ended
                break
        elif process.poll() is not None:
            break
    os.close(master)
    process.wait(60)
    return said.decode()


@pytest.mark.parametrize(
    "command",
    [
        "sessions import FILE",
        "sessions list",
        "sessions list --json",
        "sessions show EVIL",
        "sessions show plain --brief",
        "sessions show plain --json",
        "sessions export",
        "sessions clear EVIL",
        "threads list",
        "threads show EVIL",
        "threads diff EVIL",
        "threads history EVIL",
        "threads delete EVIL",
        "--no-such-EVIL",
    ],
)
def test_on_a_terminal(hostile: Path, command: str) -> None:
    """Every command that shows stored data shows it without control characters."""
    words = [
        word.replace("FILE", str(hostile)).replace("EVIL", EVIL.replace("\0", "")) for word in command.split()
    ]
    said = on_a_terminal(*words, answer=b"n\n")
    assert "owned" in said
    assert "Traceback" not in said
    assert steering(said) == set()


def test_what_a_model_says(run: Run, hostile: Path, stub: OllamaStub) -> None:
    """A model's words, and the session's name with them, are clean: as text, with --json and with --debug."""
    stub.words = [EVIL]
    session = EVIL.replace("\0", "")[:190]
    for options in ((), ("--json",), ("--debug",)):
        ended = run("ask", "hello", "--session", session, *options)
        assert ended.code == 0, ended.err
        assert steering(ended.out + ended.err) == set()


def test_ids_that_are_made_here_are_bounded(run: Run, environment: pytest.MonkeyPatch, prefix: str) -> None:
    """ask, chat and copy create no id longer than 200 characters; existing longer ids are shown and deleted."""
    for command in (("ask", "hello", "--session", "y" * 201), ("chat", "--session", "y" * 201)):
        ended = run(*command)
        assert (ended.code, "201 characters" in ended.err) == (2, True)
    with RedisMemoryService(url=os.environ["REDIS_URL"], prefix=prefix) as memory:
        memory.append_to_history("energy", "y" * 5000, {"role": "user", "content": "?"})
    assert max(map(len, run("sessions", "list").out.splitlines())) < 300
    [listed] = json.loads(run("sessions", "list", "--json").out)
    assert listed["session"] == "y" * 5000
    assert run("sessions", "show", "y" * 5000).code == 0
    assert run("sessions", "clear", "y" * 5000, "--yes").code == 0
