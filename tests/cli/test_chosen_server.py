"""``--url`` and ``--prefix``: one command on another server or other keys, whatever is set."""

from __future__ import annotations

import json

import pytest

from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.settings import get_settings
from tests.cli.conftest import Run
from tests.fixtures.servers import RunningServer


@pytest.fixture
def elsewhere(environment: pytest.MonkeyPatch, redis_server: RunningServer, prefix: str) -> tuple[str, str]:
    """The address and prefix of a session, in an environment that names neither."""
    with RedisMemoryService(url=redis_server.url, prefix=prefix) as memory:
        memory.append_to_history("energy", "kept", {"role": "user", "content": "Solar plants"})
    environment.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    environment.setenv("ECOWAS_LC_PREFIX", "another")
    return redis_server.url, prefix


def test_options_win_over_the_environment(run: Run, elsewhere: tuple[str, str]) -> None:
    """The command uses the server and keys that the options name."""
    url, prefix = elsewhere
    ended = run("sessions", "list", "--url", url, "--prefix", prefix, "--json")
    assert ended.code == 0
    assert [row["session"] for row in json.loads(ended.out)] == ["kept"]
    assert run("sessions", "show", "kept", "--url", url, "--prefix", prefix).code == 0
    assert run("stats", "--url", url, "--prefix", prefix).code == 0


def test_options_are_for_one_command(run: Run, elsewhere: tuple[str, str]) -> None:
    """The next command in the same process uses the settings again."""
    url, prefix = elsewhere
    assert run("sessions", "list", "--url", url, "--prefix", prefix).code == 0
    assert get_settings().prefix == "another"
    assert run("sessions", "list").code == 1


def test_a_url_is_used_where_redis_is_turned_off(
    run: Run, elsewhere: tuple[str, str], environment: pytest.MonkeyPatch
) -> None:
    """A named server is used, even if ``AGENT_USE_REDIS_MEMORY`` is false."""
    url, prefix = elsewhere
    environment.setenv("AGENT_USE_REDIS_MEMORY", "false")
    question = "Which solar tariffs does the power pool charge?"
    assert run("ask", question, "--session", "new", "--url", url, "--prefix", prefix).code == 0
    listed = json.loads(run("sessions", "list", "--url", url, "--prefix", prefix, "--json").out)
    assert [row["session"] for row in listed] == ["new", "kept"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "", " "])
def test_a_url_that_cannot_be_used(run: Run, environment: pytest.MonkeyPatch, url: str) -> None:
    """An invalid URL is refused as an argument; no other server is read instead."""
    ended = run("sessions", "list", "--url", url)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err


def test_an_empty_prefix_is_refused(run: Run, environment: pytest.MonkeyPatch) -> None:
    """An empty prefix would match every program's keys."""
    ended = run("sessions", "list", "--prefix", "")
    assert ended.code == 2
    assert "PREFIX" in ended.err


def test_no_password_of_a_url_is_shown(run: Run, environment: pytest.MonkeyPatch) -> None:
    """No message shows a password from the command line, not even with ``--debug``."""
    for more in ((), ("--debug",)):
        ended = run("sessions", "list", "--url", "redis://:s3cret-pass@127.0.0.1:1/0", *more)
        assert ended.code == 1
        assert "127.0.0.1:1" in ended.err
        assert "s3cret-pass" not in ended.out + ended.err


def test_chat_can_not_be_stored_nowhere_and_there(run: Run, environment: pytest.MonkeyPatch) -> None:
    """``--no-redis`` and ``--url`` contradict each other."""
    ended = run("chat", "--no-redis", "--url", "redis://127.0.0.1:1")
    assert ended.code == 2
    assert "--no-redis" in ended.err
