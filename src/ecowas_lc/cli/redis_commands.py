"""Commands that fix the problems that ``doctor`` finds with Redis, for a given server."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecowas_lc.errors import RedisRefusedError
from ecowas_lc.settings import Settings
from ecowas_lc.storage.acl import rule

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
