"""The ACL rule of the documentation: what a limited user may do on each server, command by command."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import ecowas_lc
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import RedisRefusedError
from ecowas_lc.memory import RedisMemoryService
from ecowas_lc.storage.acl import ALWAYS, COMMANDS, FIGURES, REINDEX, rule
from tests.docs.page import blocks_of
from tests.fixtures.servers import OLDEST, RunningCluster, RunningServer, running_server

ROOT = Path(__file__).parents[2]
SOURCE = Path(ecowas_lc.__file__).parent
PASSWORD = "s3cret-pa55word"
BY_REDIS_PY = {"asking", "cluster|slots", "command", "hello", "ping", "select"}
ASKED_BY_DOCTOR = {"config|get", "sentinel|ckquorum"}  # it does without where they are refused


@pytest.fixture(scope="module", params=["redis", "valkey", OLDEST])
def tenanted(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server of this module's own: whatever a rule lets through by mistake may be run on it."""
    with running_server(request.param) as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "tenant", "on", f">{PASSWORD}", *rule("ecowas").split())
        yield server


@pytest.fixture(scope="module")
def names_on_redis_7() -> dict[str, int]:
    """The commands and subcommands that Redis 7 knows; 6.2 does not list its subcommands."""
    with running_server("redis") as server:
        return arities(server)


def arities(server: RunningServer) -> dict[str, int]:
    """Every command and subcommand of a server, with how many words it takes (at least as many, if negative)."""
    with server.client() as admin:
        connection = admin.connection_pool.get_connection()
        connection.send_command("COMMAND")
        rows = connection.read_response()
        admin.connection_pool.release(connection)
    found = {}
    for row in rows:
        for name, arity, *_ in (row, *(row[9] if len(row) > 9 else ())):
            found[name.decode().lower()] = arity
    return found


def words_of(name: str, arity: int) -> list[str]:
    """A call of a command, with as many words as it takes; those after its name are in the tenant's own keys."""
    words = name.split("|")
    return words + ["ecowas:x"] * (abs(arity) - len(words))


def test_every_command_that_is_not_listed_is_refused(
    tenanted: RunningServer, names_on_redis_7: dict[str, int]
) -> None:
    """The server is asked about each of its commands and subcommands: it allows those listed, and no other."""
    known = arities(tenanted)
    if tenanted.flavour == OLDEST:
        of_containers = {n: a for n, a in names_on_redis_7.items() if "|" in n and n.partition("|")[0] in known}
        known |= of_containers
    containers = {name.partition("|")[0] for name in known if "|" in name}
    asked = {name: arity for name, arity in known.items() if name not in containers}
    assert len(asked) > 200
    is_allowed = _tried if tenanted.flavour == OLDEST else _dry_run
    allowed = {name for name, arity in asked.items() if is_allowed(tenanted, words_of(name, arity))}
    listed = {name for name in asked if {name, name.partition("|")[0]} & set(COMMANDS)}
    assert sorted(allowed - listed - set(ALWAYS)) == []
    assert sorted(listed - allowed) == []


def _dry_run(server: RunningServer, words: list[str]) -> bool:
    with server.client() as admin:
        return b"no permissions to run" not in admin.execute_command("ACL", "DRYRUN", "tenant", *words)


def _tried(server: RunningServer, words: list[str]) -> bool:
    """Redis 6.2 has no DRYRUN, so the call is made; any result other than a refusal means that it was allowed."""
    with redis.Redis(port=server.port, username="tenant", password=PASSWORD, protocol=2, socket_timeout=5) as user:
        try:
            user.execute_command(*words, NEVER_DECODE=True)
        except (redis.exceptions.RedisError, TypeError, ValueError) as error:  # also in the replies
            return "no permissions to run" not in str(error)
    return True


def test_no_command_is_pushed_other_tenants_keys(tenanted: RunningServer) -> None:
    """A tenant can't follow which keys others write, nor replace the functions that they call."""
    with redis.Redis(port=tenanted.port, username="tenant", password=PASSWORD, protocol=2) as tenant:
        for words in (
            ("CLIENT", "TRACKING", "ON", "BCAST"),
            ("SCAN", "0"),
            ("RANDOMKEY",),
            ("KEYS", "*"),
            ("MONITOR",),
            ("DBSIZE",),
            ("PUBLISH", "c", "x"),
            ("SORT", "ecowas:x", "BY", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                tenant.execute_command(*words)
        with pytest.raises(redis.exceptions.ResponseError, match=r"no permissions|unknown command"):
            tenant.execute_command("FUNCTION", "LOAD", "REPLACE", "#!lua name=billing\nreturn 1")


def test_the_list_is_what_is_sent() -> None:
    """The list has every command that scripts and programs send, and no other."""
    sent = set()
    for script in SOURCE.rglob("*.lua"):
        sent |= set(re.findall(r"redis\.p?call\('(\w+)'", script.read_text(encoding="utf-8")))
        assert not re.search(r"redis\.p?call\([^']", script.read_text(encoding="utf-8")), script
    for module in SOURCE.rglob("*.py"):
        text = module.read_text(encoding="utf-8")
        sent |= set(re.findall(r"redis\.p?call\('(\w+)'", text))
        sent |= {name for node in ast.walk(ast.parse(text)) for name in _sent_by(node)}
    found = {name.lower() for name in sent}
    listed = {*COMMANDS, *FIGURES, *REINDEX}
    assert sorted(found - listed - ASKED_BY_DOCTOR) == []
    assert sorted(listed - found - BY_REDIS_PY) == []


def _sent_by(node: ast.AST) -> Iterator[str]:
    """The command that a call such as ``command("GET", key)`` sends, or a tuple such as ``("WAIT", n)``."""
    words: list[ast.expr] = []
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("command", "Command", "on_every_node", "execute_command"):
            words = node.args[0].elts if node.args and isinstance(node.args[0], ast.Tuple) else node.args
    elif isinstance(node, ast.Tuple) and len(node.elts) > 1:
        words = node.elts
        if not (isinstance(words[0], ast.Constant) and words[0].value in ("EVAL", "EVALSHA", "WAIT")):
            return
    texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if texts and isinstance(words[0], ast.Constant) and texts[0].isupper():
        container = texts[0] in ("CLUSTER", "CONFIG", "SENTINEL", "CLIENT", "ACL", "FUNCTION", "SCRIPT")
        yield "|".join(texts[:2]) if container else texts[0]


def test_the_page_shows_the_rule() -> None:
    """The user of docs/how-to/acl.md has exactly the rule that the code derives, and no other page has one."""
    page = (ROOT / "docs/how-to/acl.md").read_text(encoding="utf-8").replace(r"\|", "|")
    [users] = [block for block in blocks_of(page) if block.title == "users.acl"]
    assert users.text.splitlines()[1] == f"user summit on >a-long-password {rule('ecowas')}"
    for name in (*FIGURES, *REINDEX):
        assert f"`+{name}`" in page
    for other in ROOT.rglob("*.md"):
        if ".venv" not in other.parts and other.name != "acl.md" and other.name != "CHANGELOG.md":
            assert "-@all" not in other.read_text(encoding="utf-8"), other


def test_a_refusal_says_who_may_not_do_what(server: RunningServer, connect, prefix: str) -> None:  # type: ignore[no-untyped-def]
    """The message names the user, the command or the keys, and the prefix to grant; no placeholder is left."""
    with server.client() as admin:
        granted = rule(prefix).replace("+rpush ", "").replace("+get ", "").split()
        admin.execute_command("ACL", "SETUSER", "clerk", "reset", "on", f">{PASSWORD}", *granted)
    limited = connect(f"redis://clerk:{PASSWORD}@127.0.0.1:{server.port}")
    memory = RedisMemoryService(server=limited, prefix=prefix)
    elsewhere = RedisMemoryService(server=limited, prefix=f"{prefix}x")
    for call, what, keys in (
        (lambda: memory.get_agent_state("a"), "GET", prefix),
        (lambda: memory.append_to_history("a", "s", {"role": "user", "content": "?"}), "", prefix),
        (lambda: elsewhere.clear_all_agent_data("a"), f"keys that begin with {prefix}x:", f"{prefix}x"),
        (
            lambda: RedisSaver(server=limited, prefix=f"{prefix}x").delete_thread("t"),
            "keys that begin",
            f"{prefix}x",
        ),
    ):
        with pytest.raises(RedisRefusedError) as refused:
            call()
        message = str(refused.value)
        assert "'clerk'" in message
        assert what in message
        assert f"~{keys}:* " in message
        assert "{" not in message
        assert PASSWORD not in message


async def test_a_refusal_names_the_user_on_every_client(cluster: RunningCluster, connect, prefix: str) -> None:  # type: ignore[no-untyped-def]
    """On a cluster, blocking and awaited, the same holds, and the rule is enough there."""
    for node in cluster.nodes:
        with node.client() as admin:
            admin.execute_command("ACL", "SETUSER", "clerk", "reset", "on", f">{PASSWORD}", *rule(prefix).split())
    url = cluster.url.replace("://", f"://clerk:{PASSWORD}@")
    memory = RedisMemoryService(server=connect(url), prefix=prefix)
    memory.append_to_history("a", "s", {"role": "user", "content": "?"})
    assert memory.get_all_sessions_for_agent("a") == ["s"]
    assert memory.get_memory_stats()["total_keys"] is None
    saver = RedisSaver(server=connect(url), prefix=f"{prefix}x")
    with pytest.raises(RedisRefusedError, match=f"'clerk' may not use keys that begin with {prefix}x:"):
        saver.delete_thread("t")
    with pytest.raises(RedisRefusedError, match=f"'clerk' may not use keys that begin with {prefix}x:"):
        await saver.adelete_thread("t")
