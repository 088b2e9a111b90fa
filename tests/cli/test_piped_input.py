"""Questions from a pipe are read whole, and refused by name if they are not UTF-8."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub


def piped(typed: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "ecowas_lc.cli", *arguments]
    return subprocess.run(command, input=typed, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("arguments", [("ask",), ("ask", "-"), ("chat",), ("chat", "--json")])
def test_what_is_not_utf_8_is_refused(
    arguments: tuple[str, ...], environment: pytest.MonkeyPatch, stub: OllamaStub
) -> None:
    """A Latin-1 question is named as such, and no model is asked."""
    ended = piped("Quelles réserves ?\n".encode("latin-1"), *arguments)
    assert ended.returncode != 0
    assert b"Line 1 of the input is not UTF-8" in ended.stderr
    assert stub.bodies("/api/chat") == []


def test_an_argument_that_is_not_utf_8_is_refused(environment: pytest.MonkeyPatch, stub: OllamaStub) -> None:
    """The same holds for an argument from a terminal with another character set."""
    command = [sys.executable, "-P", "-m", "ecowas_lc.cli", "ask", "Quelles r\udce9serves ?"]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert b"not UTF-8" in ended.stderr
    assert stub.bodies("/api/chat") == []


@pytest.mark.parametrize("arguments", [("ask",), ("ask", "-")])
def test_a_question_comes_through_a_pipe(
    arguments: tuple[str, ...], environment: pytest.MonkeyPatch, stub: OllamaStub
) -> None:
    """``ask`` without a question, or with ``-``, reads all of its input."""
    ended = piped("Quelles réserves\nde céréales ?\n".encode(), *arguments)
    assert ended.returncode == 0, ended.stderr
    assert "Quelles réserves\nde céréales ?" in [
        message["content"] for body in stub.bodies("/api/chat") for message in body["messages"]
    ]


def test_nothing_is_waited_for_on_a_terminal(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Without a question and without a pipe, the error says how to ask."""
    ended = run("ask", on_terminal=True)
    assert ended.code != 0
    assert "There is no question" in ended.err
