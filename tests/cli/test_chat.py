"""``chat``: line after line, with four commands, from a pipe as from a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import DEADLINE_SECONDS, RunningServer, running_server, wait_until

SOLAR = "Which solar tariffs does the power pool charge?"
CABLES = "Which broadband cables reach Freetown?"
MINES = "Which mines dig for lithium?"


def keys(redis_server: RunningServer, prefix: str) -> list[bytes]:
    with redis_server.client() as client:
        return sorted(client.scan_iter(f"{prefix}:*"))


def test_every_line_is_answered(run: Run, environment: pytest.MonkeyPatch) -> None:
    """From a pipe each line is a question, blank lines are none, and ``quit`` ends it before the rest."""
    ended = run("chat", stdin=f"{SOLAR}\n\n{MINES}\nThank you!\nquit\nnever asked\n")
    assert ended.code == 0
    assert [line for line in ended.out.splitlines() if line.startswith("●")] == [
        "● Energy & Infrastructure",
        "● Critical Minerals & Industrialization",
        "● Supervisor",
    ]
    assert "> " not in ended.out, "no prompt where nobody types"


def test_the_end_of_input_ends_it(run: Run, environment: pytest.MonkeyPatch) -> None:
    """A pipe may end without ``quit``, and its last line without a line end."""
    ended = run("chat", stdin=SOLAR)
    assert (ended.code, ended.out.count("Good morning.")) == (0, 1)


def test_nothing_is_replayed(run: Run, environment: pytest.MonkeyPatch) -> None:
    """Continuing a session shows how many messages it has, never their text."""
    run("chat", "--session", "s", stdin=f"{SOLAR}\n")
    ended = run("chat", "--session", "s", stdin="")
    assert "Session s, 1 question so far." in ended.err
    assert ended.out == ""


def test_info(run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer) -> None:
    """``info``, with or without a slash, shows the session, where it is stored and which model answers."""
    for word in ("info", "/info", "INFO"):
        lines = run("chat", "--session", "s", "--agent", "energy", stdin=f"{word}\n").out.splitlines()
        assert lines[0].split(maxsplit=1) == ["Session", "s"]
        assert lines[1].split(maxsplit=1) == ["Kept", f"127.0.0.1:{redis_server.port}"]
        assert lines[2].split(maxsplit=1) == ["Questions", "0"]
        assert lines[3].split(maxsplit=1) == ["Groups", "energy"]
        assert lines[4].startswith("Model      tiny at http://127.0.0.1:")


def test_help(run: Run, environment: pytest.MonkeyPatch) -> None:
    """``help`` names every command, and their descriptions are in one column."""
    said = run("chat", stdin="help\n").out
    lines = [line for line in said.splitlines() if line.startswith("  ") and line[2] != " "]
    assert [line.split()[0] for line in lines] == ["info", "reset", "continue", "help", "quit"]
    assert {line.index(line.split(maxsplit=1)[1]) for line in lines} == {12}


def test_reset_forgets_the_session_and_no_other(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, stub: OllamaStub
) -> None:
    """After ``reset``, nothing of the session remains on the server or in the model's prompt."""
    run("chat", "--session", "other", stdin=f"{SOLAR}\n")
    others = keys(redis_server, prefix)
    ended = run("chat", "--session", "s", stdin=f"{SOLAR}\nreset\nAnd wind power?\n")
    assert ended.code == 0
    told = [message["content"] for message in stub.bodies("/api/chat")[-1]["messages"]]
    assert SOLAR not in told
    assert run("chat", "--session", "s", stdin="reset\n").code == 0
    with redis_server.client() as client:  # the record of a removal holds no messages
        left = [key for key in keys(redis_server, prefix) if key not in others]
        for key in left:
            assert 0 <= client.ttl(key) <= 86_400, key  # CLEARED_REMEMBERED_MS in history_clear.lua
            assert b"olar" not in everything_in(client, key), key
            assert client.type(key) != b"list", key
    assert [key for key in keys(redis_server, prefix) if key in others] == others


def everything_in(client: Any, key: bytes) -> bytes:
    """Return the content of a key of any type."""
    match client.type(key):
        case b"string":
            return bytes(client.get(key))
        case b"hash":
            return b" ".join(part for item in client.hgetall(key).items() for part in item)
        case b"zset":
            return b" ".join(client.zrange(key, 0, -1))
    return b" ".join(client.lrange(key, 0, -1))


def test_for_programs(
    run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``--json`` each line is answered with one object on one line, failures included."""
    answer = stub.answer

    def fails_for_cables(path: str, body: dict[str, object]) -> tuple[int, object]:
        return (500, {"error": "boom"}) if "cables" in str(body.get("messages")) else answer(path, body)

    monkeypatch.setattr(stub, "answer", fails_for_cables)
    ended = run("chat", "--session", "s", "--json", stdin=f"{SOLAR}\nhelp\ninfo\nreset\n{CABLES}\n")
    answered, info, reset, failed = map(json.loads, ended.out.splitlines())
    assert (answered["groups"], answered["answer"]) == (["energy"], "Good morning.")
    assert (info["session"], info["questions"], info["model"]) == ("s", 1, "tiny")
    assert reset == {"session": "s", "reset": True}
    assert failed["question"] == CABLES
    assert "boom" in failed["error"]
    assert ended.code == 1


def test_without_redis(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, stub: OllamaStub
) -> None:
    """With ``--no-redis``, the conversation continues from line to line, and no key is written."""
    ended = run("chat", "--no-redis", stdin=f"{SOLAR}\nAnd solar power at night?\ninfo\n")
    told = [message["content"] for message in stub.bodies("/api/chat")[-1]["messages"]]
    assert told[-3:] == [SOLAR, "Good morning.", "And solar power at night?"]
    assert "only in this process's memory" in ended.out
    assert keys(redis_server, prefix) == []


def test_without_history(
    run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str, stub: OllamaStub
) -> None:
    """With ``--no-history``, each question is independent, and no key is written."""
    ended = run("chat", "--no-history", stdin=f"{SOLAR}\nAnd solar power at night?\ninfo\n")
    assert ended.code == 0
    told = [message["content"] for message in stub.bodies("/api/chat")[-1]["messages"]]
    assert SOLAR not in told
    assert "nowhere" in ended.out
    assert keys(redis_server, prefix) == []


def test_a_question_that_fails_does_not_end_it(
    run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next line is still answered; in a pipe, the exit code reports that one question failed."""
    answer = stub.answer

    def fails_for_cables(path: str, body: dict[str, object]) -> tuple[int, object]:
        return (500, {"error": "boom"}) if "cables" in str(body.get("messages")) else answer(path, body)

    monkeypatch.setattr(stub, "answer", fails_for_cables)
    ended = run("chat", "--no-history", stdin=f"{CABLES}\n{SOLAR}\n")
    assert ended.code == 1
    assert "boom" in ended.err
    assert "Good morning." in ended.out


def is_asleep(pid: int) -> bool:
    """Return whether each thread of a process waits, so that it has finished with the last token."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def test_ctrl_c_keeps_what_was_said(run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub) -> None:
    """Ctrl-C in mid-answer ends with 130 and no noise; question and half an answer are in the thread."""
    stub.stall_before = 2
    chat = subprocess.Popen(
        [sys.executable, "-P", "-m", "ecowas_lc.cli", "chat", "--session", "s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert chat.stdin is not None
        assert chat.stdout is not None
        chat.stdin.write(f"{SOLAR}\n".encode())
        chat.stdin.flush()
        heard = b""
        while b"Good" not in heard:
            ready, _, _ = select.select([chat.stdout], [], [], DEADLINE_SECONDS)
            assert ready, f"heard only {heard!r}"
            heard += os.read(chat.stdout.fileno(), 4096)
        assert stub.stalled.wait(DEADLINE_SECONDS), "the second token was not sent"
        wait_until(lambda: is_asleep(chat.pid), "the chat, which waits for the model")
        chat.send_signal(signal.SIGINT)
        out, err = chat.communicate(timeout=DEADLINE_SECONDS)
    finally:
        chat.kill()
        chat.wait(DEADLINE_SECONDS)
    assert chat.returncode == 130
    assert b"Traceback" not in err
    assert err.count(b"\n") == 1, "nothing but the remark at the start"
    assert (heard + out).endswith(b"Good morning\n")
    kept = json.loads(run("sessions", "show", "s", "--json").out)["messages"]
    assert kept == [{"speaker": "user", "text": SOLAR}, {"speaker": "energy", "text": "Good morning […]"}]
    stub.stall_before = None
    assert "Good morning." in run("ask", "And solar power at night?", "--session", "s").out


class Chat:
    """A chat in a separate process, line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ecowas_lc.cli", "chat", "--session", "s", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.heard = b""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def hear(self, words: bytes) -> None:
        assert self.process.stdout is not None
        while words not in self.heard:
            ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_SECONDS)
            assert ready, f"heard only {self.heard!r}"
            more = os.read(self.process.stdout.fileno(), 4096)
            assert more, f"it ended after {self.heard!r}"
            self.heard += more
        self.heard = self.heard.partition(words)[2]

    def end(self) -> tuple[bytes, bytes]:
        return self.process.communicate(timeout=DEADLINE_SECONDS)

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("comes_back", ["in mid-chat", "before the end"])
def test_redis_dies_in_mid_chat(
    run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub, comes_back: str
) -> None:
    """The chat continues in memory, warns once, and stores the whole conversation when Redis is back."""
    with running_server("redis", "--appendonly", "yes", "--appendfsync", "always") as mortal:
        environment.setenv("REDIS_URL", mortal.url)
        questions = [SOLAR, "And solar power at night?", "And in the dry season?"]
        with Chat() as chat:
            chat.say(questions[0])
            chat.hear(b"Good morning.")
            mortal.kill()
            for question in questions[1:]:
                chat.say(question)
                chat.hear(b"Good morning.")
            told = [message["content"] for message in stub.bodies("/api/chat")[-1]["messages"]]
            assert told[-5:] == [SOLAR, "Good morning.", questions[1], "Good morning.", questions[2]]
            mortal.start()
            if comes_back == "in mid-chat":
                questions.append("And solar power at noon?")
                chat.say(questions[-1])
                chat.hear(b"Good morning.")
            chat.say("quit")
            _, err = chat.end()
            assert chat.process.returncode == 0
        assert err.count(b"Conversations continue in memory") == 1
        assert b"Traceback" not in err
        shown = json.loads(run("sessions", "show", "s", "--json").out)
        expected = [text for question in questions for text in (question, "Good morning.")]
        assert [message["text"] for message in shown["messages"]] == expected
        assert [message["text"] for message in shown["histories"]["energy"]] == expected


def test_sigterm_stops_between_two_steps(run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub) -> None:
    """The current answer is finished and stored; ``continue`` resumes from there."""
    stub.stall_before = 2
    with Chat() as chat:
        chat.say(SOLAR)
        chat.hear(b"Good")
        chat.process.send_signal(signal.SIGTERM)
        stub.stall_before = None
        stub.released.set()
        _, err = chat.end()
        assert chat.process.returncode == 1
    assert b"stopped between two steps (SIGTERM)" in err
    asked = len(stub.bodies("/api/chat"))
    ended = run("chat", "--session", "s", stdin="continue\ncontinue\n")
    assert "the last answer was stopped" in ended.err
    assert len(stub.bodies("/api/chat")) == asked, "nobody is asked twice"
    assert "No answer of this session was stopped" in ended.err
    shown = json.loads(run("sessions", "show", "s", "--json").out)["messages"]
    assert [message["text"] for message in shown] == [SOLAR, "Good morning."]


def test_a_terminal(environment: pytest.MonkeyPatch) -> None:
    """On a terminal there is a prompt, the answer, and Ctrl-D leaves with exit code 0."""
    ours, theirs = pty.openpty()
    chat = subprocess.Popen(
        [sys.executable, "-P", "-m", "ecowas_lc.cli", "chat", "--session", "s"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "80"},
    )
    os.close(theirs)
    seen = b""

    def read_until(word: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + DEADLINE_SECONDS
        while word not in seen:
            ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{word!r} is not in {seen!r}"
            seen += os.read(ours, 4096)

    try:
        read_until(b"\n> ")
        os.write(ours, f"{SOLAR}\n".encode())
        read_until(b"Good morning.")
        seen = seen.partition(b"Good morning.")[2]
        read_until(b"\n> ")
        os.write(ours, b"\x04")
        wait_until(lambda: chat.poll() is not None, "the chat ends")
    finally:
        chat.kill()
        chat.wait(DEADLINE_SECONDS)
        os.close(ours)
    assert chat.returncode == 0
