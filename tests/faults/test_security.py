"""Limited users and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.cli import main
from ecowas_lc.errors import RedisRefusedError, RedisUnavailableError
from ecowas_lc.history import RedisChatMessageHistory
from ecowas_lc.memory import AsyncRedisMemoryService, RedisMemoryService
from ecowas_lc.settings import get_settings
from ecowas_lc.storage.server import Server
from tests.docs.page import blocks_of
from tests.faults.load import build_graph
from tests.fixtures.servers import COMMANDS, RunningServer, free_port, running_server

PASSWORD = "s3cret-pa55word"
CONFIG = {"configurable": {"thread_id": "t"}}
ROOT = Path(__file__).parents[2]


def use_everything(server: Server, prefix: str) -> None:
    """Each part's operations, sync; raises if one is refused."""
    saver = RedisSaver(server=server, prefix=prefix, ttl=3600)
    graph = build_graph(saver)
    for n in range(3):
        graph.invoke({"messages": [HumanMessage(f"{n}" + "x" * 300)]}, CONFIG)
    assert len(list(saver.list(CONFIG))) > 6
    assert list(saver.list(None, limit=2))
    saver.copy_thread("t", "copy")
    saver.prune(["t"], strategy="keep_latest")
    assert saver.pin("copy")
    assert saver.unpin("copy")
    assert saver.ttl("copy") > 0
    saver.get_delta_channel_history(config=CONFIG, channels=["messages"])
    saver.delete_for_runs(["r"])
    saver.delete_thread("copy")
    assert len(graph.get_state(CONFIG).values["messages"]) == 6
    history = RedisChatMessageHistory("a", "s", server=server, prefix=prefix, max_history=3, max_messages=2)
    history.add_messages([HumanMessage(str(n)) for n in range(5)])
    assert len(history.messages) == 2
    history.extend_ttl(60)
    memory = RedisMemoryService(server=server, prefix=prefix)
    memory.save_conversation_history("a", "s2", [{"role": "user", "content": "?"}])
    memory.append_to_history("a", "s2", {"role": "user", "content": "!"}, max_history=1)
    memory.save_agent_state("a", {"n": 1})
    memory.set_session_data("s", "k", 1)
    assert memory.get_all_sessions_for_agent("a")
    assert memory.get_session_infos()
    assert memory.health_check()
    assert memory.get_memory_stats()["agents"] == 1
    lines = list(memory.export_jsonl())
    memory.import_jsonl(lines, overwrite=True)
    memory.delete_session_data("s", "k")
    memory.clear_session("s2")
    memory.clear_all_agent_data("a")
    history.clear()


async def use_async(server: Server, prefix: str) -> None:
    """The same ways in, awaited: one of each."""
    graph = build_graph(RedisSaver(server=server, prefix=prefix))
    await graph.ainvoke({"messages": [HumanMessage("?")]}, {"configurable": {"thread_id": "async"}})
    memory = AsyncRedisMemoryService(server=server, prefix=prefix)
    await memory.append_to_history("b", "s", {"role": "user", "content": "?"})
    assert await memory.get_conversation_history("b", "s")
    await server.aclose()


def limited_user(server: RunningServer, prefix: str) -> str:
    """A user with no more than the rule says, and its URL."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", prefix, "on", f">{PASSWORD}", f"~{prefix}:*", *COMMANDS.split())
    return f"redis://{prefix}:{PASSWORD}@127.0.0.1:{server.port}"


def test_a_user_limited_to_its_prefix_may_do_everything(server, connect, prefix):
    """An ACL of ``~{prefix}:*`` and the commands of the rule is enough for every part."""
    limited = connect(limited_user(server, prefix))
    use_everything(limited, prefix)
    asyncio.run(use_async(limited, prefix))


def in_how_to(server):
    """The user of docs/how-to/acl.md, created by exactly its file."""
    [block] = [b for b in blocks_of((ROOT / "docs/how-to/acl.md").read_text()) if b.title == "users.acl"]
    (server.folder / "users.acl").write_text(block.text)
    server.stop()
    server.arguments += ["--aclfile", str(server.folder / "users.acl")]
    server.answers = lambda: server.process is not None and is_listening(server.port)  # no user may ask it more
    server.start()
    [line] = [line for line in block.text.splitlines() if ">" in line]
    return line.split()[1:]


def is_listening(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_the_user_of_the_documentation(connect):
    """The user that the how-to describes is the one that all tests run with, and has enough permissions."""
    with running_server("redis") as server:
        name, *words = in_how_to(server)
        assert words[2:] == ["~ecowas:*", *COMMANDS.split()], "what all tests run with"
        limited = connect(f"redis://{name}:{words[1][1:]}@127.0.0.1:{server.port}")
        use_everything(limited, "ecowas")
        asyncio.run(use_async(limited, "ecowas"))
        with pytest.raises(RedisRefusedError, match="may not"):
            RedisMemoryService(server=limited, prefix="other").get_agent_state("a")


def test_a_limited_user_reaches_nobody_elses_data(server, connect, prefix):
    """The same user is refused by name under another prefix, and the data there is unchanged."""
    theirs = RedisMemoryService(server=connect(server.url), prefix=f"{prefix}x")
    theirs.save_agent_state("a", {"n": 1})
    limited = connect(limited_user(server, prefix))
    memory = RedisMemoryService(server=limited, prefix=f"{prefix}x")
    for call in (
        lambda: memory.get_agent_state("a"),
        lambda: memory.save_agent_state("a", {}),
        lambda: memory.append_to_history("a", "s", {"role": "user", "content": "?"}),
        lambda: memory.clear_all_agent_data("a"),
        lambda: RedisSaver(server=limited, prefix=f"{prefix}x").get_tuple(CONFIG),
        lambda: RedisSaver(server=limited, prefix=f"{prefix}x").delete_thread("t"),
    ):
        with pytest.raises(RedisRefusedError, match="may not"):
            call()
    assert theirs.get_agent_state("a") == {"n": 1}


@pytest.fixture(params=["no", "yes"], ids=["tls", "mutual-tls"])
def tls_server(request, certificates):
    """A server that speaks TLS on a separate port, and whether it requires a certificate."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificates / "server.crt")]
    options += ["--tls-key-file", str(certificates / "server.key"), "--tls-ca-cert-file"]
    options += [str(certificates / "ca.crt"), "--tls-auth-clients", request.param]
    with running_server("redis", *options, password=PASSWORD):
        yield f"rediss://:{PASSWORD}@localhost:{port}", request.param == "yes"


def files(certificates, ca, client=None):
    found = {"redis_ssl_ca_certs": certificates / f"{ca}.crt"}
    if client:
        found["redis_ssl_certfile"] = certificates / f"{client}.crt"
        found["redis_ssl_keyfile"] = certificates / f"{client}.key"
    return found


def test_tls(tls_server, certificates, connect, prefix):
    """TLS and mutual TLS carry everything; a wrong authority or a missing certificate is a named error."""
    url, is_mutual = tls_server
    good = connect(url, **files(certificates, "ca", "client" if is_mutual else None))
    use_everything(good, prefix)
    asyncio.run(use_async(good, prefix))
    wrong = [files(certificates, "other-ca", "client" if is_mutual else None)]
    if is_mutual:
        wrong += [files(certificates, "ca"), files(certificates, "ca", "other-client")]
    for settings in wrong:
        with pytest.raises(RedisUnavailableError) as found:
            RedisMemoryService(server=connect(url, **settings), prefix=prefix).get_agent_state("a")
        assert PASSWORD not in "".join(traceback.format_exception(found.value))
    error = found.value if not is_mutual else None
    if error is not None:
        assert "TLS" in str(error)
    plain = RedisMemoryService(server=connect(url.replace("rediss", "redis")), prefix=prefix)
    with pytest.raises(RedisUnavailableError, match="If the port speaks TLS, use a rediss:// URL"):
        plain.get_agent_state("a")


def test_tls_on_the_command_line(tls_server, certificates, prefix, tmp_path, monkeypatch, capfd):
    """The command uses the same settings: it works with the right files, and names what is wrong."""
    url, is_mutual = tls_server
    good = files(certificates, "ca", "client" if is_mutual else None)
    cases = [(good, 0, "There are no sessions")]
    cases += [(files(certificates, "other-ca", "client" if is_mutual else None), 1, "TLS")]
    if is_mutual:
        cases += [(files(certificates, "ca", "other-client"), 1, "localhost:")]
        cases += [(files(certificates, "ca"), 1, "localhost:")]
    cases += [(good | {"redis_ssl_ca_certs": tmp_path / "none.crt"}, 2, "or REDIS_SSL_CA_CERTS.")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", url)
    monkeypatch.setenv("ECOWAS_LC_PREFIX", prefix)

    def run(settings, command):
        for name in ("redis_ssl_ca_certs", "redis_ssl_certfile", "redis_ssl_keyfile"):
            monkeypatch.setenv(name.upper(), str(settings.get(name, "")))
        get_settings.cache_clear()
        capfd.readouterr()
        code = main(command)
        return code, "".join(capfd.readouterr())

    try:
        for settings, expected, words in cases:
            code, said = run(settings, ["sessions", "list"])
            assert code == expected, said
            assert words in said
            assert "Traceback" not in said
        assert "TLSv1.3" in run(good, ["doctor"])[1]
    finally:
        get_settings.cache_clear()


def test_a_certificate_for_another_host_is_refused(certificates, connect, prefix):
    """A server with a different name in its certificate is refused."""
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificates / "ca.crt"), "--tls-key-file"]
    options += [str(certificates / "ca.key"), "--tls-ca-cert-file", str(certificates / "ca.crt")]
    with running_server("redis", *options, "--tls-auth-clients", "no"):
        server = connect(f"rediss://127.0.0.2:{port}", **files(certificates, "ca"))
        with pytest.raises(RedisUnavailableError):
            RedisMemoryService(server=server, prefix=prefix).get_agent_state("a")
