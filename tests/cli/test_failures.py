"""Failures at run time: exit code 1, the address without its password, and the command that fixes it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from ecowas_lc.cli import options
from tests.cli.conftest import Ended, Run, raising
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import closed_port

SOLAR = "Which solar tariffs does the power pool charge?"
NEEDS_REDIS = [
    ["ask", SOLAR],
    ["chat"],
    ["demo"],
    ["sessions", "list"],
    ["threads", "list"],
    ["sessions", "show", "s"],
]


@pytest.mark.parametrize("command", NEEDS_REDIS, ids=lambda command: command[0])
def test_redis_is_down(run: Run, environment: pytest.MonkeyPatch, command: list[str], stub: OllamaStub) -> None:
    """Without the server, every command ends at once, names host, port and the fix, and asks no model."""
    port = closed_port()
    environment.setenv("REDIS_URL", f"redis://someone:hunter2@localhost:{port}/0")
    ended = run(*command)
    assert ended.code == 1
    assert f"localhost:{port}" in ended.err
    assert "`ecowas-lc doctor`" in ended.err
    assert "hunter2" not in ended.err + ended.out
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1
    assert stub.requests == []


def test_the_model_server_is_down(run: Run, environment: pytest.MonkeyPatch) -> None:
    """If the configured model server is down, no other replaces it; the message says how to start it."""
    port = closed_port()
    environment.setenv("OLLAMA_BASE_URL", f"http://someone:hunter2@localhost:{port}")
    ended = run("ask", SOLAR)
    assert ended.code == 1
    assert f"http://localhost:{port}" in ended.err
    assert "`ollama serve`" in ended.err
    assert "hunter2" not in ended.err
    assert ended.out == ""


def test_the_model_is_not_pulled(run: Run, environment: pytest.MonkeyPatch) -> None:
    """A model that the server lacks is named with the command that gets it."""
    environment.setenv("OLLAMA_MODEL", "llama3.2:3b")
    ended = run("ask", SOLAR)
    assert ended.code == 1
    assert "`ollama pull llama3.2:3b`" in ended.err


def test_the_model_fails_while_it_answers(run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub) -> None:
    """If a model's answer breaks off, that is an error without traceback; the question can be asked again."""
    stub.error = (500, "the model crashed")
    ended = run("ask", SOLAR, "--session", "s")
    assert ended.code == 1
    assert "the model crashed" in ended.err
    assert "Traceback" not in ended.err
    stub.error = None
    assert "Good morning." in run("ask", SOLAR, "--session", "s").out


def test_debug_shows_the_traceback(run: Run, environment: pytest.MonkeyPatch) -> None:
    """``--debug`` shows the traceback, before the command or after it, and ends with the same message."""
    environment.setenv("OLLAMA_MODEL", "llama3.2:3b")
    for arguments in (["ask", SOLAR, "--debug"], ["--debug", "ask", SOLAR]):
        ended = run(*arguments)
        assert ended.code == 1
        assert "Traceback (most recent call last)" in ended.err
        assert ended.err.rstrip().endswith("`ollama pull llama3.2:3b`.")


def test_what_nobody_foresaw_is_one_line_too(
    run: Run, environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error shows no traceback either, and says how to get one."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such luck.")

    monkeypatch.setattr("ecowas_lc.cli.chat.ask_once", fail)
    ended = run("ask", SOLAR)
    assert ended.code == options.FAILED
    assert ended.err == "Unexpected RuntimeError: no such luck. Run the command with --debug for details.\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_outside_of_the_command(run: Run, bare: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    """Ctrl-C ends with 130 and no traceback, also before the command begins and with an older typer."""
    bare.setattr("typer.main.get_command", raising(error()))
    assert run("sessions", "list") == Ended(130, "", "")


PRINTING = """
import sys, typer
from ecowas_lc.cli.options import run

app = typer.Typer()
app.command()(lambda: print("not flushed"))
sys.exit(run(app, []))
"""


@pytest.mark.parametrize(
    "program", [["-m", "ecowas_lc.cli", "--version"], ["-c", PRINTING]], ids=["ours", "prints"]
)
def test_output_that_nobody_reads(bare: pytest.MonkeyPatch, program: list[str]) -> None:
    """If the reader of the output has closed the pipe, a command fails silently, also if a library prints."""
    bare.delenv("PYTHONUNBUFFERED", raising=False)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        command = [sys.executable, "-P", *program]
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (options.FAILED, b"")
