"""The checks of Redis or Valkey that ``doctor`` runs, and the commands that fix what they find.

They check the server, TLS, a cluster's nodes and Sentinels.
"""

from __future__ import annotations

import contextlib
import shlex
import ssl
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ecowas_lc.cli.findings import Finding, broken, note, ok, warning
from ecowas_lc.errors import EcowasError, IncompleteWarning, RedisRefusedError
from ecowas_lc.settings import Settings
from ecowas_lc.storage.acl import ALWAYS, COMMANDS, COURTESIES, FIGURES, rule
from ecowas_lc.storage.evictions import facts_in, lost_op
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.ops import EVERY_NODE, Op, command
from ecowas_lc.storage.server import Server

if TYPE_CHECKING:
    from ecowas_lc.storage.addresses import Address
    from ecowas_lc.storage.server import Server

LOOPBACK = ("localhost", "127.", "::1")


@dataclass(frozen=True)
class Commands:
    """Commands for one server; ``address`` is ``None`` for the embedded server."""

    settings: Settings
    address: Address | None
    server: Server

    def redis_cli(self, *words: str, node: str = "") -> str:
        """Return a ``redis-cli`` command for the server, or for one node (``host:port``) of it."""
        return shlex.join(["redis-cli", *self._where(node), *words])

    def configure(self, name: str, value: str, facts: dict[str, str], node: str = "") -> str:
        """Return the command that changes a server setting, now and permanently."""
        now = self.redis_cli("CONFIG", "SET", name, value, node=node)
        if facts.get("config_file"):
            return f"{now} && {self.redis_cli('CONFIG', 'REWRITE', node=node)}"
        return f"{now}  # and from its next start on: --{name} {value}" if "config_file" in facts else now

    def rights(self) -> str:
        """Return the command that gives the user exactly the needed rights."""
        user = (self.address.username if self.address else None) or self.settings.redis_username or "default"
        keys, *commands = rule(self.settings.prefix, figures=True).split()
        return (
            f"{shlex.join(['redis-cli', *self._where(''), 'ACL', 'SETUSER', user, 'resetkeys', keys, *commands])}"
        )

    def new_user(self) -> str:
        """Return the command that creates a user with the needed rights."""
        words = [
            "ACL",
            "SETUSER",
            self.settings.prefix,
            "on",
            ">PASSWORD",
            *rule(self.settings.prefix, figures=True).split(),
        ]
        return shlex.join(["redis-cli", *self._where(""), *words])

    def after_refusal(self, error: RedisRefusedError) -> str:
        """Return the command that fixes a refusal; empty if its message says what to do."""
        told = str(error)
        if "Grant " in told:
            return self.rights()
        if "has no password" in told:
            return "unset REDIS_PASSWORD, or take the password out of REDIS_URL"
        if "password" in told:
            return "export REDIS_PASSWORD=…"
        if "out of memory" in told:
            return self.redis_cli("CONFIG", "SET", "maxmemory", "2gb")
        return ""

    def start(self) -> str:
        """Return the command that starts the server."""
        if self.address is None:
            return "ecowas-lc server start"
        local = all(host.startswith(LOOPBACK) for host, _ in self.address.hosts)
        if self.address.kind == "unix" or not local:
            return "start it there, or unset REDIS_URL and REDIS_HOST to use the embedded server"
        host, port = self.address.hosts[0]
        if self.address.kind == "cluster":
            return self.redis_cli("--cluster", "check", f"{host}:{port}")
        if self.address.kind == "sentinel":
            return f"redis-server sentinel.conf --sentinel --port {port}"
        return f"redis-server --port {port} --appendonly yes"

    def trust(self) -> str:
        """Return how to trust the server's certificate."""
        return "export REDIS_SSL_CA_CERTS=FILE, with the certificate of the authority that signed the server's"

    def _where(self, node: str) -> list[str]:
        address = self.address
        if address is None:
            from ecowas_lc.embedded import server_status

            return ["-s", str(server_status(self.settings).socket)]
        if address.kind == "unix":
            return ["-s", address.path]
        host, port = self._host_and_port(address, node)
        words = [] if host in ("localhost", "127.0.0.1") else ["-h", host]
        words += [] if port == 6379 else ["-p", str(port)]
        if address.tls:
            words.append("--tls")
            if self.settings.redis_ssl_ca_certs:
                words += ["--cacert", str(self.settings.redis_ssl_ca_certs)]
        return [*words, "--askpass"] if address.password and not address.username else words

    def _host_and_port(self, address: Address, node: str) -> tuple[str, int]:
        from redis.exceptions import RedisError

        if node:
            host, _, port = node.rpartition(":")
            return host, int(port)
        if address.kind == "sentinel":
            try:
                sentinel = self.server.client.connection_pool.sentinel_manager
                host, port = sentinel.discover_master(address.service)
                return str(host), int(port)
            except RedisError:
                return "PRIMARY", 6379
        return address.hosts[0]


_SOON_DAYS = 14


def examine_tls(server: Server) -> Iterator[Finding]:
    """Yield the findings about the TLS connection to the server, or to a cluster's first primary."""
    client = server.client
    if server.is_cluster:
        client = client.get_redis_connection(client.get_primaries()[0])
    protocol, certificate = _handshake(client.connection_pool)
    if not certificate:
        yield ok("Redis", "privacy", protocol or "TLS")
        return
    days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86400
    text = f"{protocol}; the certificate was checked and is good for {days:.0f} days"
    if days < _SOON_DAYS:
        fix = "renew the server's certificate: redis-cli CONFIG SET tls-cert-file FILE takes it without a restart"
        yield warning("Redis", "privacy", f"{text} only", fix)
    else:
        yield ok("Redis", "privacy", text)


def _handshake(pool: Any) -> tuple[str, dict[str, Any]]:
    """Return the protocol's name and the verified certificate, empty if the connection does not reveal them."""
    connection = pool.get_connection()
    try:
        with contextlib.suppress(AttributeError):  # redis-py's socket is private
            return connection._sock.version(), connection._sock.getpeercert() or {}
        return "", {}
    finally:
        pool.release(connection)


AREA = "Redis"
_SLOTS = "16384"


def examine_cluster(server: Server, commands: Commands) -> Iterator[Finding]:
    """Yield the findings about the cluster: whether every slot is served, by nodes that agree on it."""
    for name, reply in server.run(on_every_node("CLUSTER", "INFO")).items():
        if isinstance(reply, Exception):
            yield note(AREA, "cluster", f"{name}: this user has no permission for CLUSTER INFO", commands.rights())
            return
        facts = facts_in(reply)
        if facts.get("cluster_state", "ok") != "ok" or facts.get("cluster_slots_ok", _SLOTS) != _SLOTS:
            text = f"{name}: {facts.get('cluster_slots_ok')} of {_SLOTS} slots are served: data is missing"
            yield broken(AREA, "cluster", text, commands.redis_cli("--cluster", "fix", name))
            return
    yield ok(AREA, "cluster", f"every slot is served, by {len(server.client.get_primaries())} primaries")


def examine_sentinels(server: Server) -> Iterator[Finding]:
    """Yield whether the configured Sentinels answer, and whether enough of them could elect a new primary."""
    from redis.exceptions import RedisError, ResponseError

    pool = server.client.connection_pool
    answering = 0
    for sentinel in pool.sentinel_manager.sentinels:
        options = sentinel.connection_pool.connection_kwargs
        at = f"{options.get('host')}:{options.get('port')}"
        try:
            sentinel.execute_command("SENTINEL", "CKQUORUM", pool.service_name)
        except ResponseError as error:
            if "NOQUORUM" not in str(error) and "quorum" not in str(error):
                yield warning(AREA, "sentinel", f"{at}: it refused the question: {error}", _start(options))
                continue
            text = f"{at}: too few Sentinels to elect a new primary if this one fails"
            yield warning(
                AREA, "sentinel", text, "start the other sentinels: redis-server sentinel.conf --sentinel"
            )
        except (RedisError, OSError):
            yield warning(AREA, "sentinel", f"{at} does not answer", _start(options))
        else:
            answering += 1
    if answering:
        count = len(pool.sentinel_manager.sentinels)
        yield ok(AREA, "sentinel", f"{answering} of {count} named Sentinels answer and could elect a new primary")


def _start(options: dict[str, Any]) -> str:
    return f"on {options.get('host')}: redis-server sentinel.conf --sentinel --port {options.get('port')}"


def on_every_node(*words: str) -> Op[dict[str, Any]]:
    """Return each primary's reply by its name; an error counts as a reply."""
    [replies] = yield (command(*words, optional=True, node=EVERY_NODE),)
    return dict(replies)


def text_of(value: Any) -> str:
    """Return bytes or any other value as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


OLDEST = (6, 2)
_NEARLY_FULL = 0.9
_SLOW_SECONDS = 0.5


def examine_redis(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the settings' server; stop when no further check is possible."""
    from ecowas_lc.storage.server import Server

    address = _address(settings)
    server = Server.from_settings(settings)
    commands = Commands(settings, address, server)
    try:
        yield from _examine(server, commands)
    finally:
        server.close()


def _examine(server: Server, commands: Commands) -> Iterator[Finding]:
    settings, address = commands.settings, commands.address
    from ecowas_lc.embedded.data_dir import find_place
    from ecowas_lc.memory.service import ping_op

    source = {"url": "REDIS_URL", "parts": "REDIS_HOST", "default": "neither REDIS_URL nor REDIS_HOST is set"}
    where = f"{server.where} ({source[settings.redis_source]})"
    begun = time.monotonic()
    try:
        server.run(ping_op(Keys(settings.prefix)))
    except RedisRefusedError as error:
        facts = _facts_of_one(server)
        if _is_node_of_cluster(facts, address):
            yield from _topology(facts, address, "")
        else:
            yield broken(AREA, "reachable", str(error), commands.after_refusal(error))
        return
    except EcowasError as error:
        is_tls = address is not None and address.tls and "TLS" in str(error)
        yield broken(AREA, "reachable", str(error), commands.trust() if is_tls else commands.start())
        return
    yield ok(AREA, "reachable", f"{where}, {1000 * (time.monotonic() - begun):.0f} ms")
    if server.is_embedded:
        place = find_place(settings)
        yield ok(AREA, "place", f"socket {place.socket}, data in {place.data_dir}")
    for name, info in server.run(on_every_node("INFO")).items():
        at = f"{name}: " if name else ""
        if isinstance(info, Exception):
            yield note(AREA, "server", f"{at}this user has no permission for INFO", commands.rights())
            continue
        facts = facts_in(info)
        yield _version(facts, at)
        yield from _topology(facts, address, at)
        yield from _persistence(facts, _configured(server, "save", name), commands, name)
        yield from _eviction(facts, commands, name)
    if server.is_cluster:
        yield from examine_cluster(server, commands)
    elif address is not None and address.kind == "sentinel":
        yield from examine_sentinels(server)
    yield from _lost_entries(server, commands.settings.prefix)
    yield from _rights(server, commands)
    if address is not None:
        yield from _width(server, commands, address)
    yield from _privacy(server, address)


def _version(facts: dict[str, str], at: str) -> Finding:
    kind = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "unknown")
    compatible = facts.get("redis_version", version)  # Valkey also reports a Redis version
    if tuple(int(part) for part in compatible.split(".")[:2] if part.isdigit()) < OLDEST:
        return broken(AREA, "version", f"{at}{kind} {version} is too old: 6.2 is required", "upgrade the server")
    return ok(AREA, "version", f"{at}{kind} {version}")


def _topology(facts: dict[str, str], address: Address | None, at: str) -> Iterator[Finding]:
    if facts.get("role") in ("slave", "replica"):
        yield broken(
            AREA,
            "topology",
            f"{at}a read-only replica",
            f"point REDIS_URL at {facts.get('master_host', 'its primary')}",
        )
    elif _is_node_of_cluster(facts, address):
        assert address is not None
        hosts = ",".join(f"{host}:{port}" for host, port in address.hosts)
        scheme = "rediss" if address.tls else "redis"
        yield broken(
            AREA,
            "topology",
            f"{at}one node of a cluster, used as a single server",
            f"export REDIS_URL={scheme}+cluster://{hosts}",
        )
    else:
        kind = (
            "embedded, one server"
            if address is None
            else {"unix": "single", "single": "single"}.get(address.kind, address.kind)
        )
        yield ok(AREA, "topology", f"{at}{kind}, {facts.get('connected_slaves', '0')} replicas")


def _is_node_of_cluster(facts: dict[str, str], address: Address | None) -> bool:
    """Return whether a server that is configured as a single one belongs to a cluster."""
    return facts.get("redis_mode") == "cluster" and address is not None and address.kind != "cluster"


def _facts_of_one(server: Server) -> dict[str, str]:
    """Return what a server reports about itself; empty if this user may not ask."""
    try:
        [info] = server.run(on_every_node("INFO")).values()
    except EcowasError:
        return {}
    return {} if isinstance(info, Exception) else facts_in(info)


def _persistence(facts: dict[str, str], save: str | None, commands: Commands, node: str) -> Iterator[Finding]:
    at = f"{node}: " if node else ""
    for fact, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "log write")):
        if facts.get(fact, "ok") != "ok":
            yield broken(AREA, "persistence", f"{at}the last {what} failed: see its log", "free disk space")
    fix = commands.configure("appendonly", "yes", facts, node)
    if facts.get("aof_enabled") == "1":
        yield ok(AREA, "persistence", f"{at}every write is logged (append-only file)")
    elif save == "":
        yield warning(AREA, "persistence", f"{at}none: a restart of the server loses every conversation", fix)
    else:
        rules = f" (save {save})" if save else ""
        yield warning(
            AREA, "persistence", f"{at}only snapshots{rules}: a crash loses everything after the last one", fix
        )


def _eviction(facts: dict[str, str], commands: Commands, node: str) -> Iterator[Finding]:
    at = f"{node}: " if node else ""
    limit, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    policy = facts.get("maxmemory_policy", "unknown")
    keep_all = commands.configure("maxmemory-policy", "noeviction", facts, node)
    if not limit:
        if policy in ("noeviction", "unknown"):
            yield ok(AREA, "memory", f"{at}{_size(used)} used, no limit, so nothing is evicted")
        else:
            text = f"{at}{_size(used)} used, no limit; with a limit, policy {policy} evicts conversations"
            yield warning(AREA, "memory", text, keep_all)
        return
    room = f"{at}{_size(used)} of {_size(limit)} used, policy {policy}"
    if policy != "noeviction":
        yield broken(
            AREA,
            "memory",
            f"{room}: when it is full it evicts conversations, and the indexes that deletions and exports need; "
            "only noeviction is supported",
            keep_all,
        )
    elif used > limit * _NEARLY_FULL:
        yield warning(
            AREA,
            "memory",
            f"{room}: it will soon refuse writes",
            commands.configure("maxmemory", str(2 * limit), facts, node),
        )
    else:
        yield ok(AREA, "memory", room)


def _lost_entries(server: Server, prefix: str) -> Iterator[Finding]:
    for kind in ("sessions", "threads"):
        if count := server.run(lost_op(Keys(prefix), kind)):
            yield warning(
                AREA,
                "indexes",
                f"{count} keys were evicted: lists, exports and removals of {kind} may leave some out",
                f"ecowas-lc {kind} reindex",
            )


def _rights(server: Server, commands: Commands) -> Iterator[Finding]:
    """Perform the writes of a conversation under keys of their own, and delete them again."""
    settings = commands.settings
    rehearse = _rehearsal(server, settings)
    begun = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", IncompleteWarning)
            rehearse()
    except IncompleteWarning as warned:
        yield broken(AREA, "rights", str(warned))
    except RedisRefusedError as error:
        yield broken(AREA, "rights", str(error), commands.after_refusal(error))
    except EcowasError as error:
        yield broken(AREA, "rehearsal", str(error))
    else:
        seconds = time.monotonic() - begun
        done = f"wrote and deleted a history, a checkpoint and an item under {settings.prefix}:*"
        text = f"{done}, {1000 * seconds:.0f} ms"
        yield ok(AREA, "rights", text) if seconds < _SLOW_SECONDS else warning(AREA, "rights", f"{text}: slow")


# Asks the server which commands this user may run besides those in ARGV, without running them: of all commands,
# or of those in the last argument if the user may not list them. ``false``: Redis before 7 cannot be asked.
_MAY = """
if not redis.acl_check_cmd then return false end
local needed, found, key = {}, {}, ARGV[1] .. ':doctor'
for index = 3, #ARGV do needed[ARGV[index]] = true end
local function check(name, arity)
  local words = {}
  for word in string.gmatch(name, '[^|]+') do words[#words + 1] = word end
  if needed[name] or needed[words[1]] then return end
  while #words < math.abs(arity) do words[#words + 1] = key end
  local known, may = pcall(redis.acl_check_cmd, unpack(words))
  if known and may then found[#found + 1] = name end
end
local all = redis.pcall('COMMAND')
if all.err then
  for name in string.gmatch(ARGV[2], '%S+') do check(name, 6) end
else
  for _, command in ipairs(all) do
    local subcommands = command[10] or {}
    if #subcommands == 0 then check(command[1], command[2]) end
    for _, each in ipairs(subcommands) do check(each[1], each[2]) end
  end
end
return {redis.acl_check_cmd('GET', 'x' .. key) and 1 or 0, unpack(found)}
"""
# Commands that can read or change other users' data, the most informative first.
_TELLING = (
    "flushall config|set acl|setuser client|tracking function|load function|delete keys scan randomkey monitor "
    "client|kill client|list script|flush shutdown debug replicaof migrate publish sort fcall"
)


def _width(server: Server, commands: Commands, address: Address) -> Iterator[Finding]:
    """Yield whether the user has more rights than needed, without using any of them."""
    user = address.username or commands.settings.redis_username or "default"
    everywhere, more = _more_than_needed(server, commands.settings.prefix)
    if not (everywhere or more):
        yield ok(AREA, "access", f"the user {user!r} has exactly the rights that are needed")
        return
    named = [name for name in _TELLING.split() if name in more] or sorted(more)
    what = [f"{len(more)} more commands ({', '.join(named[:5])}{', …' if len(more) > 5 else ''})"] if more else []
    what = [f"keys outside {commands.settings.prefix}:*"] * everywhere + what
    text = f"the user {user!r} may use {' and '.join(what)}"
    if user != "default":
        yield warning(AREA, "access", f"{text} than this package needs" if more else text, commands.rights())
    elif all(host.startswith(LOOPBACK) for host, _ in address.hosts):
        yield ok(AREA, "access", "every user may do everything, which is normal for your own server")
    else:
        yield warning(
            AREA, "access", f"{text}: on a shared server, log in as a dedicated user", commands.new_user()
        )


def _more_than_needed(server: Server, prefix: str) -> tuple[bool, set[str]]:
    """Return whether keys outside the prefix are allowed, and which commands are allowed but not needed."""
    needed = (*COMMANDS, *FIGURES, *COURTESIES, *ALWAYS)
    replies = server.run(on_every_node("EVAL", _MAY, "0", prefix, _TELLING, *needed)).values()
    reply = next(iter(replies))
    if isinstance(reply, list):
        return reply[0] == 1, {text_of(name) for name in reply[1:]}
    found = set()
    key = f"{prefix}:doctor"
    for words in (
        *(("SCAN", "0", "COUNT", "1"), ("RANDOMKEY",), ("CLIENT", "ID"), ("ACL", "WHOAMI"), ("ECHO", "x")),
        *(("STRLEN", key), ("GETDEL", key)),  # one of @read, one of @write, on a missing key
    ):
        if not isinstance(next(iter(server.run(on_every_node(*words)).values())), Exception):
            found.add(words[0].lower())
    outside = server.run(on_every_node("GET", f"x{prefix}:doctor")).values()
    return not isinstance(next(iter(outside)), Exception), found


def _rehearsal(server: Server, settings: Settings) -> Callable[[], None]:
    """Return the check of rights with all its imports done, so that they do not count as the server's time."""
    from langgraph.checkpoint.base import empty_checkpoint

    from ecowas_lc.checkpoint import RedisSaver
    from ecowas_lc.checkpoint.writing import delete_thread_op
    from ecowas_lc.memory import RedisMemoryService
    from ecowas_lc.search.place import bucket_of, id_of
    from ecowas_lc.storage.keys import id_bytes
    from ecowas_lc.store import RedisStore

    name = f"doctor-{uuid.uuid4().hex}"
    memory = RedisMemoryService(server=server, prefix=settings.prefix, default_ttl=60)
    saver = RedisSaver(server=server, prefix=settings.prefix, ttl=60)
    thread: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
    store = RedisStore(server=server, prefix=settings.prefix, collection=name)
    items, space = store._at, ("doctor", name)

    def forget_items() -> Op[None]:
        yield (command("UNLINK", items.item(id_of(space, "item")), *items.bucket(bucket_of(space))),)
        yield (command("ZREM", items.keys.collections(), id_bytes(name)),)

    def rehearse() -> None:
        try:
            memory.append_to_history("doctor", name, {"role": "user", "content": "Is anybody there?"})
            memory.get_conversation_history("doctor", name)
            stored = saver.put(thread, empty_checkpoint(), {"source": "input", "step": -1}, {})
            saver.put_writes(stored, [("answer", "yes")], "task")
            saver.get_tuple(thread)
            store.put(space, "item", {"text": "Is anybody there?"}, ttl=1)
            store.get(space, "item")
            store.search(space)
            store.delete(space, "item")
        finally:
            server.run(memory._programs.sessions.clear_session_op(name, leaves_trace=False))
            server.run(delete_thread_op(saver._at, name, operation=""))
            server.run(forget_items())

    return rehearse


def _privacy(server: Server, address: Address | None) -> Iterator[Finding]:
    if address is None or address.kind == "unix":
        yield ok(AREA, "privacy", "a socket on this machine")
        return
    distant = [host for host, _ in address.hosts if not host.startswith(LOOPBACK)]
    if address.tls:
        yield from examine_tls(server)
    elif distant:
        yield warning(
            AREA,
            "privacy",
            f"no TLS to {', '.join(distant)}: conversations are sent unencrypted",
            "use rediss:// in REDIS_URL, and REDIS_SSL_CA_CERTS for your own certificate authority",
        )
    else:
        yield ok(AREA, "privacy", "no TLS, which a server on this machine does not need")
    if distant and not address.password:
        yield warning(AREA, "login", "no password", "set REDIS_PASSWORD, or put it in REDIS_URL")


def _configured(server: Server, name: str, node: str) -> str | None:
    """Return a server's setting, or ``None`` if this user may not ask."""
    reply = server.run(on_every_node("CONFIG", "GET", name)).get(node)
    if isinstance(reply, dict):
        words = [part for pair in reply.items() for part in pair]
    elif isinstance(reply, list):
        words = reply
    else:
        return None
    texts = [part.decode() if isinstance(part, bytes) else str(part) for part in words]
    return texts[1] if len(texts) == 2 else None


def _address(settings: Settings) -> Address | None:
    """Return the server's address, or ``None`` for the embedded server."""
    from ecowas_lc.embedded import is_available
    from ecowas_lc.storage.addresses import Address, parse_url

    if settings.redis_source == "url":
        assert settings.redis_url is not None
        return parse_url(settings.redis_url.get_secret_value())
    if settings.redis_source == "default" and is_available(settings):
        return None
    return Address(
        "single",
        hosts=((settings.redis_host, settings.redis_port),),
        username=settings.redis_username,
        password="set" if settings.redis_password else None,  # only whether there is a password matters here
    )


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
