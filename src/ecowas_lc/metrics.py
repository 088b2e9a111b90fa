"""Metrics for Prometheus: the activity of this process, and the data in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ecowas_lc import _telemetry
from ecowas_lc._extras import install_command
from ecowas_lc.errors import EcowasError, MissingExtraError
from ecowas_lc.memory.service import stats_op
from ecowas_lc.settings import Settings, get_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

_TURN_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_REDIS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Metrics:
    """Counts the activity of this process from now on, and reads figures from Redis when Prometheus asks for them.

    The figures are in ``registry``, a ``prometheus_client.CollectorRegistry`` to which you can add your own. Each
    process has its own; Prometheus adds them up. Requires the extra ``web``.

    Args:
        server: The server whose stored figures are read, once per scrape; default: none are read.
        prefixes: The prefixes whose sessions, threads and approvals are counted.
        registry: The registry for the metrics; default: a new one.

    Raises:
        MissingExtraError: ``prometheus-client`` is not installed.

    Example:
        >>> metrics = Metrics()
        >>> text, content_type = metrics.exposition()
        >>> metrics.close()
    """

    registry: CollectorRegistry

    def __init__(
        self,
        server: Server | None = None,
        prefixes: Iterable[str] = (),
        *,
        registry: CollectorRegistry | None = None,
    ) -> None:
        try:
            import prometheus_client
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"Metrics need {error.name}, which is not installed. Run: {install_command('web')}"
            ) from error
        self.registry = prometheus_client.CollectorRegistry() if registry is None else registry
        self._counts = _Counts(self.registry)
        self._stored = None if server is None else _Stored(server, list(prefixes))
        if self._stored is not None:
            self.registry.register(self._stored)
        _telemetry.observe(self._counts)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, *, registry: CollectorRegistry | None = None) -> Self:
        """Return metrics that also read the figures of the settings' server and prefix.

        Args:
            settings: The settings to use; default: those of the process.
            registry: The registry for the metrics; default: a new one.

        Raises:
            MissingExtraError: ``prometheus-client`` is not installed.
            ConfigurationError: The settings can't be used.
        """
        settings = settings or get_settings()
        return cls(Server.from_settings(settings), [settings.prefix], registry=registry)

    def include(self, prefix: str) -> None:
        """Also count the data stored under this prefix.

        Args:
            prefix: The prefix of the keys.
        """
        if self._stored is not None and prefix not in self._stored.prefixes:
            self._stored.prefixes.append(prefix)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return the figures in Prometheus' text format.

        Args:
            accept: The ``Accept`` header that Prometheus sends.

        Returns:
            The text as bytes, and its content type.
        """
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def close(self) -> None:
        """Stop counting."""
        _telemetry.ignore(self._counts)


class _Counts:
    """The activity of the process, as counters and histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def histogram(name: str, about: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
            return Histogram(name, about, labels, registry=registry, buckets=buckets)

        outcome = "outcome"  # ok, paused, cancelled, failed or the name of an error
        self._turns = histogram("ecowas_turn_seconds", "Duration of turns in seconds", [outcome], _TURN_SECONDS)
        self._groups = histogram(
            "ecowas_group_seconds", "Duration of groups' answers in seconds", ["group", outcome], _TURN_SECONDS
        )
        self._models = histogram(
            "ecowas_model_seconds",
            "Duration of model calls in seconds, with the time in the queue",
            ["model", outcome],
            _TURN_SECONDS,
        )
        self._tools = histogram(
            "ecowas_tool_seconds", "Duration of tool calls in seconds", ["tool", outcome], _TURN_SECONDS
        )
        self._searches = histogram(
            "ecowas_retrieval_seconds", "Duration of searches for passages in seconds", [outcome], _REDIS_SECONDS
        )
        self._redis = histogram(
            "ecowas_redis_seconds", "Duration of operations on Redis in seconds", ["part", outcome], _REDIS_SECONDS
        )
        self._tokens = Counter(
            "ecowas_model_tokens", "Tokens that models read and wrote", ["model", "direction"], registry=registry
        )
        self._retries = Counter(
            "ecowas_redis_failed_attempts", "Failed attempts of Redis calls that were retried", registry=registry
        )
        self._outages = Counter("ecowas_outages", "Times that agents continued without Redis", registry=registry)
        self._down = Gauge(
            "ecowas_servers_down", "Redis servers that agents currently work without", registry=registry
        )

    def finished(self, kind: str, seconds: float, outcome: str, attributes: Mapping[str, Any]) -> None:
        """Record how long an operation took."""
        match kind:
            case "turn":
                self._turns.labels(outcome).observe(seconds)
            case "group":
                if outcome == "ok" and attributes.get("ecowas.status") == "failed":
                    outcome = "failed"
                self._groups.labels(attributes["ecowas.group"], outcome).observe(seconds)
            case "model":
                model = attributes["gen_ai.request.model"]
                self._models.labels(model, outcome).observe(seconds)
                for direction in ("input", "output"):
                    self._tokens.labels(model, direction).inc(
                        attributes.get(f"gen_ai.usage.{direction}_tokens") or 0
                    )
            case "tool":
                failed = outcome == "ok" and "error.type" in attributes
                self._tools.labels(attributes["gen_ai.tool.name"], "failed" if failed else outcome).observe(
                    seconds
                )
            case "retrieval":
                self._searches.labels(outcome).observe(seconds)
            case "redis":
                part = str(attributes["db.operation.name"]).partition(".")[0]
                self._redis.labels(part, outcome).observe(seconds)

    def counted(self, kind: str, amount: float, attributes: Mapping[str, Any]) -> None:
        """Record that an event happened."""
        if kind == "redis_retry":
            self._retries.inc(amount)
        elif kind == "outage":
            self._down.inc(amount)
            if amount > 0:
                self._outages.inc(amount)


class _Stored:
    """The figures in Redis, read when Prometheus asks."""

    def __init__(self, server: Server, prefixes: list[str]) -> None:
        self.prefixes = prefixes
        self._server = server

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: naming the figures would read Redis when the metrics are created."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the stored figures; if Redis does not answer, yield only that fact."""
        from prometheus_client.core import GaugeMetricFamily

        up = GaugeMetricFamily("ecowas_redis_up", "Whether Redis answers")
        memory = GaugeMetricFamily("ecowas_redis_memory_bytes", "Memory that the server uses")
        counts = {
            name: GaugeMetricFamily(f"ecowas_{name}", about, labels=["prefix"])
            for name, about in (
                ("agents", "Agents with a history or state"),
                ("sessions", "Sessions"),
                ("histories", "Histories"),
                ("threads", "Threads"),
                ("waiting_approvals", "Answers and tool calls that wait for a decision"),
            )
        }
        try:
            for prefix in list(self.prefixes):
                found = self._server.run(stats_op(Keys(prefix)))
                for name in ("agents", "sessions", "histories", "threads"):
                    counts[name].add_metric([prefix], found[name])
                counts["waiting_approvals"].add_metric([prefix], self._waiting(prefix))
                if not memory.samples and found["used_memory_bytes"] is not None:
                    memory.add_metric([], found["used_memory_bytes"])
        except EcowasError:
            up.add_metric([], 0)
            return (up,)
        up.add_metric([], 1)
        return (up, memory, *counts.values())

    def _waiting(self, prefix: str) -> int:
        from ecowas_lc.checkpoint import RedisSaver

        return sum(len(row.waiting) for row in RedisSaver(server=self._server, prefix=prefix).waiting())
