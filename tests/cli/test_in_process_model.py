"""Commands with a model in this process: its note, JSON, exit codes, the demonstration; and small parts."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from redis.exceptions import ResponseError
from rich.console import Console

from ecowas_lc import local_model
from ecowas_lc.cli import (
    chat,
    conversation,
    demo,
    docs,
    live_answer,
    local_servers,
    models,
    options,
    redis_checks,
    screen,
    stats,
    store,
    terminal,
    threads,
)
from ecowas_lc.cli.conversation import Conversation
from ecowas_lc.cli.docs import _page_of
from ecowas_lc.cli.models import ChosenModel
from ecowas_lc.cli.redis_checks import Commands
from ecowas_lc.drawing.requests import Request
from ecowas_lc.errors import (
    CorruptDataError,
    EcowasError,
    InvalidInputError,
    MissingExtraError,
    ModelError,
    ModelServerUnavailableError,
    RedisUnavailableError,
)
from ecowas_lc.settings import get_settings, load_settings
from ecowas_lc.storage.addresses import parse_url
from ecowas_lc.storage.left_out import warn_left_out
from ecowas_lc.supervisor.evaluation.comparison import Comparison
from ecowas_lc.supervisor.routing.measurement import ModelMeasurement
from tests.cli.conftest import Run, raising
from tests.fixtures.scripted_model import ScriptedModel, by_speaker

SOLAR = "Which solar tariffs does the power pool charge?"
CABLES = "Which broadband cables reach Freetown?"
NOTE = "A note on the model."


def answer(messages: list[Any]) -> Any:
    if "cables" in str(messages[-1].content):
        return ModelError("boom")
    return by_speaker({})(messages)


@contextmanager
def chosen(settings: Any, **_: Any) -> Iterator[ChosenModel]:
    yield ChosenModel(ScriptedModel(script=answer, structured=True), "scripted", "nowhere", False, NOTE)


@pytest.fixture
def model(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a command whose model is scripted and runs in this process."""
    for module in (chat, demo, models):
        environment.setattr(module, "chosen_model", chosen)
    return environment


def test_questions_and_lines(run: Run, model: pytest.MonkeyPatch) -> None:
    """``ask`` and ``chat`` show the note, answer as text or JSON, and report a failed question at the end."""
    asked = run("ask", "--session", "s", "--json", SOLAR)
    assert (json.loads(asked.out)["answer"], NOTE in asked.err) == ("energy speaks.", True)
    lines = run("chat", "--session", "s", "--json", stdin=f"{SOLAR}\n{CABLES}\nreset\nquit\n")
    answered, failed, reset = map(json.loads, lines.out.splitlines())
    assert (answered["answer"], failed["error"], reset["reset"]) == ("energy speaks.", "boom", True)
    assert lines.code == 1
    assert run("chat", stdin=f"{SOLAR}\n{CABLES}\n").code == 1
    typed = run("chat", stdin=f"{SOLAR}\n\n", on_terminal=True)  # ends with Ctrl-D
    assert (typed.code, "energy speaks." in typed.out) == (0, True)
    model.setattr("builtins.input", raising(KeyboardInterrupt()))
    assert run("chat", on_terminal=True).code == 130
    model.setattr(chat, "silence", raising(KeyboardInterrupt()))
    assert run("ask", "--session", "stopped", "--json", SOLAR).code == 130
    assert run("sessions", "show", "stopped", "--json").code == 0
    model.setenv("AGENT_USE_REDIS_MEMORY", "false")
    assert "Not stored" in run("ask", SOLAR).err


def test_a_conversation_in_another_thread(model: pytest.MonkeyPatch) -> None:
    """Where no signal can be handled and, without numpy, no document be read, a question is answered anyway."""
    model.setattr("importlib.util.find_spec", lambda *_: None)
    found: list[Any] = []

    def talk() -> None:
        with chosen(None) as one, Conversation("s", one.chat, settings=load_settings()) as conversation:
            found.append(conversation.ask(SOLAR, live_answer.silence))

    thread = threading.Thread(target=talk)
    thread.start()
    thread.join(30)
    assert [each.groups for each in found] == [("energy",)]


def test_the_demonstration(run: Run, model: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two questions, the documents, the second process, the pictures and the next steps, in this order."""
    model.setattr(demo, "_answer_from_documents", lambda *_: None)  # it has tests of its own, and takes long
    ended = run("demo", "--output", str(tmp_path / "pictures"))
    assert ended.code == 0, ended.err
    titles = [line for line in ended.out.splitlines() if line.startswith("━━")]
    assert [title.split()[1] for title in titles[1:]] == ["Question", "Question", "Answers", "A", "The", "Next"]
    assert {file.suffix for file in (tmp_path / "pictures").iterdir()} == {".png", ".svg"}


@pytest.mark.parametrize("no_color", [False, True])
def test_the_second_process_is_coloured_where_the_first_is(model: pytest.MonkeyPatch, no_color: bool) -> None:
    """The demo's second process prints colours on a terminal, unless the user has turned them off."""
    started: list[dict[str, str]] = []

    def ended(*_: Any, env: dict[str, str], **__: Any) -> Any:
        started.append(env)
        return SimpleNamespace(returncode=0)

    model.delenv("NO_COLOR", raising=False)
    model.delenv("FORCE_COLOR", raising=False)
    if no_color:
        model.setenv("NO_COLOR", "1")
    model.setattr(demo, "out", lambda: Console(file=StringIO(), force_terminal=True, width=80))
    model.setattr(demo.subprocess, "run", ended)
    demo._read_back("s")
    [environment] = started
    assert (environment.get("FORCE_COLOR"), environment["COLUMNS"]) == (None if no_color else "1", "80")


def test_a_demonstration_that_lacks_something(
    model: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without Ollama the local model is installed, without extras a part is left out; a lost session is named."""
    calls: list[str] = []

    @contextmanager
    def second_time(settings: Any, **_: Any) -> Iterator[ChosenModel]:
        if not calls:
            raise ModelServerUnavailableError("nobody answers")
        with chosen(settings) as one:
            yield one

    model.setattr(demo, "chosen_model", second_time)
    model.setattr(demo, "install", lambda: calls.append("install"))
    model.setattr(local_model, "is_available", lambda: False)
    with demo._model(SimpleNamespace(ollama_is_set=False)) as one:  # type: ignore[arg-type]
        assert (one.name, calls) == ("scripted", ["install"])
    calls.clear()
    with pytest.raises(ModelServerUnavailableError), demo._model(SimpleNamespace(ollama_is_set=True)):  # type: ignore[arg-type]
        pass
    model.setattr("importlib.util.find_spec", lambda *_: None)
    demo._answer_from_documents(one, get_settings())
    assert "needs the extras documents and search" in capfd.readouterr().err

    def save(path: Path) -> Path:
        if path.suffix != ".mmd":
            raise MissingExtraError("no Graphviz")
        return path

    assert [path.suffix for path in demo._saved(SimpleNamespace(save=save), tmp_path)] == [".mmd"]
    model.setattr(demo.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    with pytest.raises(EcowasError, match="exit code 3"):
        demo._read_back("nope")


def test_routers_are_measured_with_a_model(run: Run, model: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table ends with the model's accuracy where other routers are unsure, which is also stored."""
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"question": SOLAR, "twgs": ["energy"]}))
    found = ModelMeasurement("scripted", "digest", "words", 20, 18, 9)
    saved: list[Any] = []
    model.setattr("ecowas_lc.supervisor.evaluation.save_measurement", saved.append)
    model.setattr(
        "ecowas_lc.supervisor.evaluation.compare_routers", lambda *_, **__: Comparison({}, measured=found)
    )
    ended = run("eval", "--model", "scripted", "--data", str(file))
    assert NOTE in ended.err
    told = "On the 20 questions where the other routers are unsure, scripted was right 18 times, and they 9 times."
    assert f"{told} The hybrid router will ask it there." in " ".join(ended.out.split())
    assert saved == [found]


def test_answers_are_measured_with_their_model(run: Run, model: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``eval --grounding`` needs documents, shows the model's note, and lists each answer that is wrong."""
    file, note = tmp_path / "questions.jsonl", tmp_path / "note.txt"
    question = {"id": "q1", "q": "What is the tariff in Talvera?", "answerable": False}
    file.write_text(json.dumps(question) + "\n")
    measure = ("eval", "--grounding", str(file), "--model", "scripted")
    assert "There are no documents to answer from" in run(*measure).err
    note.write_text("The tariff in Talvera is 7 cents per kilowatt-hour.\n")
    assert run("docs", "add", str(note)).code == 0
    found = run(*measure)
    assert (NOTE in found.err, "q1: What is the tariff in Talvera?" in found.out) == (True, True), found


def test_the_local_model_as_a_command(run: Run, model: pytest.MonkeyPatch) -> None:
    """It says where it is served and how to use it; an installed one is not installed again."""
    model.setattr(local_model, "serve", lambda *, on_ready, **_: on_ready("http://127.0.0.1:1"))
    assert "OLLAMA_BASE_URL=http://127.0.0.1:1" in run("local-model", "serve").out.replace("\n", " ")
    model.setattr(local_model, "is_available", lambda: True)
    assert "already installed" in run("local-model", "install").err
    model.setattr(local_model, "is_available", lambda: False)
    model.setattr(local_model, "install_command", lambda: [["false"]])
    assert "The command failed with code 1: false" in run("local-model", "install").err
    assert [local_servers._duration(seconds) for seconds in (7200, 59)] == ["2 h", "59 s"]


def test_small_parts(model: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files without permission, unknown times, pages and lines that are too long have a message of their own."""
    file = tmp_path / "a.png"
    model.setattr(os, "access", lambda path, _: path == file and file.exists())
    with pytest.raises(InvalidInputError, match="no permission to create files"):
        screen.check_target(file)
    file.touch()
    model.setattr(os, "access", lambda *_: False)
    with pytest.raises(InvalidInputError, match="no permission to write to it"):
        screen.check_target(file)
    with (
        pytest.raises(EcowasError, match=r"full\. The file was not changed"),
        screen.naming(file),
    ):
        raise OSError(28, "full")
    assert (store.ago(None), _page_of("4")) == ("unknown", 4)
    model.setattr(terminal, "_LONGEST_LINE", 4)
    model.setattr("sys.stdin", StringIO("ab\nabcd"))
    with pytest.raises(InvalidInputError, match="Line 2 of the input"):
        list(terminal.piped_lines())


def test_figures_of_a_server_that_goes_away(model: pytest.MonkeyPatch) -> None:
    """Watched figures show the error, and the next ones follow."""
    model.setattr(stats, "_figures", raising(RedisUnavailableError("gone")))
    model.setattr(stats, "_server_of", lambda _: {"server": "redis://x", "prefix": "p"})
    found = next(stats._again_and_again(None, 1.0))  # type: ignore[arg-type]
    assert found["error"] == "gone"
    assert stats._screen(found, {}, 1.0) is not None


class Replies:
    """A server whose replies are given, for findings that no server of the tests has."""

    is_cluster = False

    def __init__(self, replies: Any) -> None:
        self.replies = replies

    def run(self, op: Any) -> Any:
        if isinstance(self.replies, Exception):
            raise self.replies
        return self.replies


def test_findings_that_are_rare(model: pytest.MonkeyPatch) -> None:
    """An old version, a failed snapshot, a gap in a cluster, and a distant server without TLS or password."""
    settings = load_settings(redis_url="redis://db.example.org:6379", prefix="p")
    distant = parse_url("redis://db.example.org:6379")
    commands = Commands(settings, distant, Replies({}))  # type: ignore[arg-type]

    def texts(findings: Any) -> str:
        return " ".join(f"{one.state} {one.text} {one.fix}" for one in findings)

    assert "5.0.7 is too old" in redis_checks._version({"redis_version": "5.0.7"}, "").text
    failed = {"rdb_last_bgsave_status": "err", "config_file": "/etc/redis.conf"}
    said = texts(redis_checks._persistence(failed, None, commands, ""))
    assert "the last snapshot failed" in said
    assert "CONFIG REWRITE" in said
    for reply, expected in (
        (EcowasError("no"), "no permission for CLUSTER INFO"),
        (b"cluster_state:fail", "missing"),
    ):
        assert expected in texts(redis_checks.examine_cluster(Replies({"n": reply}), commands))  # type: ignore[arg-type]
    assert "no TLS to db.example.org" in texts(redis_checks._privacy(Replies({}), distant))  # type: ignore[arg-type]
    model.setattr(redis_checks, "_more_than_needed", lambda *_: (True, {"flushall"}))
    assert "dedicated user" in texts(redis_checks._width(Replies({}), commands, distant))  # type: ignore[arg-type]
    assert redis_checks._configured(Replies({"n": {b"save": b"900 1"}}), "save", "n") == "900 1"  # type: ignore[arg-type]
    model.setattr(redis_checks, "_rehearsal", lambda *_: raising(CorruptDataError("odd")))
    assert texts(redis_checks._rights(Replies({}), commands)).startswith("broken odd")  # type: ignore[arg-type]


def test_findings_about_tls_sentinels_and_indexes(model: pytest.MonkeyPatch) -> None:
    """A cluster's TLS, a hidden certificate, a Sentinel that refuses, evicted indexes, a rehearsal that warns."""
    commands = Commands(load_settings(prefix="p"), parse_url("redis://h:6379"), Replies({}))  # type: ignore[arg-type]

    class Pool:
        def __init__(self, sock: Any) -> None:
            self.connection = SimpleNamespace(_sock=sock)

        def get_connection(self) -> Any:
            return self.connection

        def release(self, connection: Any) -> None:
            assert connection is self.connection

    def server_of(sock: Any, **more: Any) -> Any:
        node = SimpleNamespace(connection_pool=Pool(sock))
        client = SimpleNamespace(get_primaries=lambda: ["n"], get_redis_connection=lambda _: node, **vars(node))
        return SimpleNamespace(is_cluster=True, client=client, **more)

    plain = SimpleNamespace(version=lambda: "TLSv1.3", getpeercert=dict)
    assert [(one.state, one.text) for one in redis_checks.examine_tls(server_of(plain))] == [("ok", "TLSv1.3")]
    assert [(one.state, one.text) for one in redis_checks.examine_tls(server_of(None))] == [("ok", "TLS")]

    sentinel = SimpleNamespace(
        connection_pool=SimpleNamespace(connection_kwargs={"host": "s", "port": 26379}),
        execute_command=raising(ResponseError("NOPERM this user has no permissions")),
    )
    pool = SimpleNamespace(sentinel_manager=SimpleNamespace(sentinels=[sentinel]), service_name="main")
    watched: Any = SimpleNamespace(client=SimpleNamespace(connection_pool=pool))
    [refused, *_] = redis_checks.examine_sentinels(watched)
    assert (refused.state, refused.text) == (
        "warning",
        "s:26379: it refused the question: NOPERM this user has no permissions",
    )
    lost = list(redis_checks._lost_entries(Replies(3), "p"))  # type: ignore[arg-type]
    assert [one.fix for one in lost] == ["ecowas-lc sessions reindex", "ecowas-lc threads reindex"]
    assert lost[0].text.startswith("3 keys were evicted")
    model.setattr(redis_checks, "_rehearsal", lambda *_: lambda: warn_left_out("The thread 't'", "NOPERM"))
    [finding] = redis_checks._rights(Replies({}), commands)  # type: ignore[arg-type]
    assert (finding.state, "The thread 't'" in finding.text) == ("broken", True)


def test_logs_and_interruptions_of_commands(model: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The log of --debug has no control characters, other warnings are shown, and Ctrl-C sets its exit code."""
    root = logging.getLogger()
    model.setattr(root, "handlers", [])
    options.show_tracebacks(wanted=True)
    logging.getLogger("ecowas_lc").warning("red \x1b[31m")
    assert "\x1b" not in capsys.readouterr().err
    told: list[Any] = []
    options._show_warning(lambda *words, **_: told.append(words), [], "odd \x1b[31m", UserWarning, "file", 1)
    assert told[0][1] is UserWarning
    assert "\x1b" not in told[0][0]
    app = typer.Typer()

    @app.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert options.run(app, []) == 130


def test_chats_for_programs_end_with_the_server(model: pytest.MonkeyPatch) -> None:
    """A question's error is a line of JSON, a server error ends the chat; documents need an extra."""
    away: Any = SimpleNamespace(session="s", ask=raising(RedisUnavailableError("gone")))
    with pytest.raises(RedisUnavailableError):
        chat._answer_as_json(away, SOLAR)
    with model.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda *_: None)
        assert conversation._documents(None, get_settings()) is None  # type: ignore[arg-type]


def test_small_parts_of_commands(
    model: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Only a command outside PATH has its path; a held tool call has its arguments; a folder is confirmed."""
    script = tmp_path / "ecowas-lc"
    script.touch()
    with model.context() as patched:
        patched.setattr("shutil.which", lambda _: None)
        patched.setattr("sys.executable", str(tmp_path / "python"))
        patched.chdir(tmp_path)
        assert screen.program() == "./ecowas-lc"
        patched.chdir(tmp_path.parent)
        assert screen.program() == f"{tmp_path.name}/ecowas-lc"
        patched.chdir("/usr")
        assert screen.program() == str(script)
        patched.setattr("shutil.which", str)
        assert screen.program() == "ecowas-lc"
        script.unlink()
    request = Request("", "", "release?", arguments=(("to", "Lomé\n now"), ("", "as it is")), choices=("approve",))
    assert list(threads._request_lines(request))[1:3] == ["to: Lomé now", "as it is"]
    assert list(threads._request_lines(request))[3].startswith("You can approve. Run: ")
    for number in range(docs._MANY_FILES + 1):
        (tmp_path / f"{number}.txt").touch()
    model.setattr(docs, "confirmed", lambda question, *, yes: bool(sys.stdout.write(question) and 0))
    options_of = dict.fromkeys(("title", "issuer", "date", "language", "supersedes"), "")
    docs.add_documents([tmp_path], groups=[], yes=False, json=False, **options_of)
    assert f"Add {docs._MANY_FILES + 1} files?" in capsys.readouterr().out
