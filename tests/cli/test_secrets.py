"""No command prints a password, with ``--debug`` and against any server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from ecowas_lc.cli.commands import app
from tests.cli.conftest import Run
from tests.fixtures.ollama_stub import OllamaStub
from tests.fixtures.secrets import ENCODED, GOOD, PASSWORD, USER, signs_in
from tests.fixtures.servers import RunningServer, closed_port

# These never talk to a server that wants a password, and run until Ctrl-C or install packages.
LEFT_OUT = {"local-model serve", "local-model install"}
WORDS = {"question": "Which solar tariffs?", "session": "s", "thread": "t", "target": "copy", "file": "-"}
SOME = ("sessions list", "threads export", "doctor")


def verbs(group: click.Group | None = None, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command there is, by its words."""
    group = group or typer.main.get_command(app)  # type: ignore[assignment]
    for name, command in group.commands.items():  # type: ignore[union-attr]
        words = f"{path} {name}".strip()
        if hasattr(command, "commands"):
            yield from verbs(command, words)  # type: ignore[arg-type]
        else:
            yield words, command


def arguments_of(command: click.Command) -> list[str]:
    """The arguments that a command requires, and ``--yes`` where it would ask."""
    needed = [p for p in command.params if p.param_type_name == "argument" and p.required]
    given = [WORDS[str(p.name)] if p.name in WORDS else WORDS["file"] for p in needed]
    return [*given, *("--yes" for p in command.params if "--yes" in p.opts)]


VERBS = dict(verbs())


def test_every_command_is_there() -> None:
    """The walk finds the commands of every group, and skips only the listed ones."""
    assert {words.partition(" ")[0] for words in VERBS} >= {"ask", "doctor", "sessions", "threads", "server"}
    assert set(VERBS) >= LEFT_OUT
    assert all(any("--debug" in p.opts for p in command.params) for command in VERBS.values())


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """``--debug`` sets logging up for the process."""
    root, ours = logging.getLogger(), logging.getLogger("ecowas_lc")
    handlers, levels = list(root.handlers), (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def said_by_all(run: Run, words: list[str]) -> dict[str, str]:
    """The output of each of these commands with ``--debug``."""
    said = {}
    few = Path.cwd() / "few-questions.jsonl"  # embedding each question of a whole set would take a minute
    few.write_text('{"question": "Which solar tariffs?", "twgs": ["energy"], "lang": "en"}\n', encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:  # so that a command that serves until Ctrl-C ends
        more = {"serve": ["--port", str(taken.getsockname()[1])], "eval": ["--data", str(few)]}
        for each in words:
            given = [*each.split(), *arguments_of(VERBS[each]), *more.get(each, ()), "--debug"]
            ended = run(*given, stdin="Which solar tariffs?\nquit\n")
            assert "No such option" not in ended.err
            said[each] = f"{ended.code} {ended.out}{ended.err}"
    return said


@pytest.mark.parametrize("kind", ["right", "wrong-password"])
def test_no_command_prints_a_password(
    kind: str, run: Run, environment: pytest.MonkeyPatch, secret_urls: dict[str, str], tmp_path: Path
) -> None:
    """Every command, against a server that it can use and against one that refuses it."""
    environment.setenv("REDIS_URL", secret_urls[kind])
    environment.setenv("ECOWAS_LC_DATA_DIR", str(tmp_path / "data"))
    environment.setenv("ECOWAS_LC_LINGER_SECONDS", "0")
    words = [each for each in VERBS if each not in LEFT_OUT]
    words.sort(key=lambda each: each == "server stop")
    said = said_by_all(run, words)
    assert not {each: text for each, text in said.items() if signs_in(text)}
    failed = [each for each, text in said.items() if "Traceback (most recent call last)" in text]
    assert len(failed) > (10 if kind == "wrong-password" else 0)


def test_no_server_makes_them_print_one(
    run: Run,
    environment: pytest.MonkeyPatch,
    secret_urls: dict[str, str],
    certificates: Path,
    is_long: bool,
) -> None:
    """Every way in which a server can fail, with some commands; the long form tries every command."""
    environment.setenv("REDIS_CONNECT_TIMEOUT", "0.5")
    environment.setenv("REDIS_SOCKET_TIMEOUT", "1")
    environment.setenv("REDIS_SSL_CA_CERTS", str(certificates / "ca.crt"))
    every = [each for each in VERBS if each not in LEFT_OUT and not each.startswith("server")]
    for kind, url in secret_urls.items():
        environment.setenv("REDIS_URL", url)
        said = said_by_all(run, every if is_long else list(SOME))
        assert not {each: text for each, text in said.items() if signs_in(text)}, kind
        assert (kind in GOOD) == said["sessions list"].startswith("0 "), said["sessions list"]


def test_passwords_that_come_alone(run: Run, environment: pytest.MonkeyPatch, redis_server: RunningServer) -> None:
    """``REDIS_PASSWORD`` is as secret as a URL, right or wrong, as a process's settings or in ``.env``."""
    environment.delenv("REDIS_URL")
    environment.setenv("REDIS_PORT", str(redis_server.port))
    for host, password in (("127.0.0.1", PASSWORD), ("127.0.0.1", ENCODED), ("no-such-host.invalid", PASSWORD)):
        environment.setenv("REDIS_HOST", host)
        environment.setenv("REDIS_PASSWORD", password)
        said = said_by_all(run, list(SOME))
        assert not {each: text for each, text in said.items() if signs_in(text)}
        assert "Traceback" in said["sessions list"]
    environment.setenv("REDIS_PORT", "no")
    Path(".env").write_text(f"REDIS_PASSWORD={PASSWORD}\nREDIS_URL=redis://u:{PASSWORD}@h:{ENCODED}\n")
    environment.delenv("REDIS_PASSWORD")
    assert not signs_in(str(said_by_all(run, list(SOME))))


@pytest.mark.parametrize("kind", ["right", "down", "refused", "not-escaped"])
def test_logins_of_the_model_server(
    kind: str, run: Run, environment: pytest.MonkeyPatch, stub: OllamaStub
) -> None:
    """The user and the password in ``OLLAMA_BASE_URL`` are not printed either."""
    at = f"127.0.0.1:{closed_port()}" if kind == "down" else stub.url.rpartition("/")[2]
    stub.error = (500, "no") if kind == "refused" else None
    login = f"{USER}:{PASSWORD if kind == 'not-escaped' else ENCODED}"
    environment.setenv("OLLAMA_BASE_URL", f"http://{login}@{at}")
    said = said_by_all(run, ["ask", "chat", "doctor", "graph"])
    assert not {each: text for each, text in said.items() if signs_in(text)}
    assert ("Good morning" in said["ask"]) == (kind == "right")
