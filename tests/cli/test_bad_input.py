"""Bad input: one line on standard error, exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ecowas_lc.checkpoint import RedisSaver
from tests.cli.conftest import Run, process
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.servers import RunningServer
from tests.redis.writer import Writer

BAD = {
    "empty question": (["ask", ""], "The question is empty"),
    "blank question": (["ask", " \n "], "The question is empty"),
    "no question": (["ask"], "The question is empty"),  # read from a pipe that holds nothing
    "empty session": (["ask", "Why?", "--session", ""], "The session id is empty"),
    "blank session": (["chat", "--session", "  "], "The session id is empty"),
    "unknown group": (
        ["ask", "Why?", "--agent", "fishing"],
        "There is no working group 'fishing'. Available: energy,",
    ),
    "unknown group in chat": (["chat", "--agent", "fishing"], "There is no working group 'fishing'"),
    "unknown group in a route": (["graph", "--route", "fishing"], "There is no working group 'fishing'"),
    "unknown option": (["ask", "Why?", "--loud"], "No such option: --loud"),
    "unknown command": (["aks"], "No such command 'aks'"),
    "no such picture": (["graph", "-o", "graph.gif"], "can't be saved as '.gif'"),
    "no such format": (["graph", "--format", "gif"], "'gif' is not one of"),
    "no such router": (["eval", "--router", "dice"], "There is no router 'dice'"),
    "a router without its model": (["eval", "--router", "model"], "Pass one, such as --model"),
    "no such questions": (["eval", "--data", "/no/such/file"], "/no/such/file can't be read"),
    "time to live of nothing": (["sessions", "extend", "s", "--ttl", "0"], "--ttl 0 can't be used"),
    "empty session to show": (["sessions", "show", ""], "The session id is empty"),
    "nobody to ask": (["sessions", "clear", "kept"], "Pass --yes"),
    "nobody to ask about pruning": (["threads", "prune", "kept"], "Pass --yes"),
    "no thread to prune": (["threads", "prune"], "Name the threads to prune, or pass --all"),
    "threads and all of them": (["threads", "prune", "kept", "--all"], "Name the threads to prune, or pass --all"),
    "nothing to keep": (["threads", "prune", "kept", "--keep", "0", "--yes"], "keep"),
    "copy onto itself": (["threads", "copy", "kept", "kept"], "can't be copied onto itself"),
    "copy onto another": (["threads", "copy", "kept", "taken"], "The thread 'taken' already"),
    "copy to nothing": (["threads", "copy", "kept", ""], "id is empty"),
    "no file": (["threads", "import", "none.jsonl"], "none.jsonl can't be read: No such file"),
    "a folder": (["sessions", "import", "/"], "/ can't be read: Is a directory"),
    "no export": (["sessions", "import", __file__], "Line 1 can't be imported: it is not JSON"),
    "a file in no folder": (
        ["threads", "export", "-o", "no/such/x.jsonl"],
        "can't be written: there is no folder no/such",
    ),
    "onto a folder": (["sessions", "export", "-o", "/"], "can't be written"),
    "a report without a file": (["sessions", "export", "--json"], "needs --output too"),
    "too often": (["stats", "--watch", "--every", "0"], "every"),
    "limit of nothing": (["threads", "list", "--limit", "0"], "limit"),
}


def contents(client: Any, prefix: str) -> dict[bytes, Any]:
    """The content of each key. (DUMP also depends on the order of a hash's fields, which has no meaning.)"""
    read = {
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter(f"{prefix}:*")}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_arguments(
    run: Run,
    environment: pytest.MonkeyPatch,
    redis_server: RunningServer,
    prefix: str,
    stub: OllamaStub,
    arguments: list[str],
    message: str,
) -> None:
    """Invalid input is refused in one line with exit code 2, before a model is asked or anything is written."""
    with redis_server.client() as client:
        client.rpush(f"{prefix}:history:energy:kept", '{"role": "user", "content": "Hello"}')
        client.zadd(f"{prefix}:index:session-agents:kept", {"energy": 9e12})
        with RedisSaver.from_url(redis_server.url, prefix=prefix) as saver:
            for thread in ("kept", "taken"):
                Writer(saver, thread).put(messages=[])
        before = contents(client, prefix)
        ended = run(*arguments)
        after = contents(client, prefix)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert after == before
    assert stub.bodies("/api/chat") == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("REDIS_URL", "http://user:hunter2@localhost", "The Redis URL must start with one of redis://"),
        ("REDIS_URL", "redis://:hunter2@localhost:port", "a host or port that can't be read"),
        ("REDIS_URL", "redis://:hunter2@localhost/notes", "database must be a number"),
        ("REDIS_URL", "rediss://:hunter2@localhost?ssl_cert_reqs=never", "option ssl_cert_reqs has a value that"),
        ("REDIS_URL", "rediss://:hunter2@localhost?ssl_ca_certs=/none.pem", "There is no file /none.pem"),
        ("REDIS_URL", "redis://:hunter2@localhost?ssl_cert_reqs=none", "Use rediss:// for TLS"),
        ("REDIS_URL", "redis://:hunter2@localhost?max_connections=0", "option max_connections has a value that"),
        ("REDIS_URL", "redis://:hunter2@localhost?max_connections=9999999999", "option max_connections has"),
        ("REDIS_URL", "redis://:hunter2@localhost?socket_timeout=-1", "option socket_timeout has a value that"),
        ("REDIS_URL", "redis://:hunter2@localhost?socket_connect_timeout=inf", "option socket_connect_timeout"),
        ("REDIS_SOCKET_TIMEOUT", "99999999999", "REDIS_SOCKET_TIMEOUT in the environment can't be used"),
        ("LLM_TIMEOUT", "inf", "LLM_TIMEOUT in the environment can't be used"),
        ("REDIS_MEMORY_TTL", "99999999999", "REDIS_MEMORY_TTL in the environment can't be used"),
        ("REDIS_MAX_CONNECTIONS", "9999999999", "REDIS_MAX_CONNECTIONS in the environment can't be used"),
        ("REDIS_PORT", "hunter2", "REDIS_PORT"),
        ("LLM_TEMPERATURE", "hunter2", "LLM_TEMPERATURE"),
        ("OLLAMA_BASE_URL", "ftp://user:hunter2@localhost", "OLLAMA_BASE_URL"),
        ("ECOWAS_LC_PREFIX", "hunter2:*", "can't be used"),
        ("ECOWAS_LC_ROUTER", "dice", "There is no router 'dice'"),
    ],
)
def test_settings(run: Run, environment: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    """A setting that can't be used is named in one line with exit code 2; a password is never shown."""
    environment.setenv(name, value)
    if name == "REDIS_PORT":  # which is not read if there is a URL
        environment.delenv("REDIS_URL")
        environment.setenv("REDIS_HOST", "127.0.0.1")
    ended = run("ask", "Which solar tariffs apply?")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert "hunter2" not in ended.err or name == "ECOWAS_LC_PREFIX"


def _folder(path: Path) -> None:
    path.mkdir()


def _not_text(path: Path) -> None:
    path.write_bytes(b"REDIS_URL=\xff\xfe")


@pytest.mark.parametrize("spoil", [_folder, _not_text])
def test_env_file(run: Run, environment: pytest.MonkeyPatch, spoil: object) -> None:
    """An unreadable ``.env`` is named in one line with exit code 2, and is unchanged."""
    spoil(Path(".env"))  # type: ignore[operator]
    ended = run("ask", "Which solar tariffs apply?")
    assert (ended.code, ended.out) == (2, "")
    assert f"{Path('.env').absolute()} can't be read" in ended.err
    assert ended.err.count("\n") == 1
    assert Path(".env").exists()


def test_a_misspelt_setting_is_told_of(environment: pytest.MonkeyPatch) -> None:
    """One line says so before the result. The result is unchanged, and the variable's value is not shown."""
    environment.setenv("ECOWAS_LC_ROUTR", "hunter2")
    ended = process("sessions", "list", "--json")
    assert (ended.returncode, ended.stdout) == (0, "[]\n")
    assert ended.stderr == (
        "ECOWAS_LC_ROUTR in the environment sets nothing: no setting has this name. "
        "Did you mean ECOWAS_LC_ROUTER?\n"
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["graph", "-o", "nowhere/g.svg"], "nowhere/g.svg can't be written: there is no folder nowhere."),
        (["graph", "-o", "here"], "here can't be written: it is a folder."),
        (["graph", "-o", "nowhere/g.svg", "--json"], "there is no folder nowhere."),
        (["eval", "--picture", "g.docx"], "g.docx can't be written: its name must end in .png."),
        (["eval", "--picture", "nowhere/g.png"], "nowhere/g.png can't be written: there is no folder nowhere."),
        (["demo", "--output", "file/under"], "file/under can't be created: Not a directory."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_picture_has_no_place(
    run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub, command: list[str], reason: str
) -> None:
    """The error comes before anything is drawn, measured or asked, with exit code 2, and nothing is written."""
    Path("here").mkdir()
    Path("file").write_text("mine", encoding="utf-8")
    ended = run(*command)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith(f"{reason}\n")
    assert ended.err.count("\n") == 1
    assert stub.requests == []
    assert sorted(path.name for path in Path().rglob("*")) == ["file", "here"]


@pytest.mark.parametrize(
    "arguments",
    [["sessions", "list", "--limit", "0"], ["ask", "a", "b"], ["graph", "--format", "pdf"]],
    ids=" ".join,
)
def test_what_is_wrong_is_a_sentence_of_its_own(run: Run, arguments: list[str]) -> None:
    """The message is a sentence that ends before the hint begins, and names no class of a library."""
    said = run(*arguments).err
    assert ". See `ecowas-lc " in said
    assert "Value error" not in said


def test_an_agent_without_sessions(run: Run, environment: pytest.MonkeyPatch) -> None:
    """The message differs from the one for a missing session."""
    ended = run("sessions", "list", "--agent", "nobody")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "Agent nobody has no sessions. `ecowas-lc sessions list` lists all.\n"
