"""Prometheus metrics: counters of this process, and the contents of Redis, read for each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ecowas_lc import _telemetry
from ecowas_lc.agents.outage import ServerLink
from ecowas_lc.checkpoint import RedisSaver
from ecowas_lc.errors import RedisUnavailableError
from ecowas_lc.history import history_factory
from ecowas_lc.llm import make_chat_model
from ecowas_lc.metrics import Metrics
from ecowas_lc.settings import Settings
from ecowas_lc.storage.server import Server
from ecowas_lc.supervisor import build_supervisor
from tests.fixtures.ollama_stub import serving_stub
from tests.fixtures.scripted_model import FixedRouter, ScriptedModel, by_speaker
from tests.fixtures.servers import RunningServer, running_server, wait_until
from tests.telemetry.test_spans import calling, tariff


@pytest.fixture
def metrics(redis_server: RunningServer, prefix: str) -> Iterator[Metrics]:
    made = Metrics(Server.from_url(redis_server.url), [prefix])
    yield made
    made.close()


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """The result of a scrape: values by name and labels, without buckets."""
    text, content_type = metrics.exposition()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if "le" not in sample.labels
    }


def graph_on(server: RunningServer, prefix: str, model: Any, **options: Any) -> Any:
    return build_supervisor(
        model,
        router=FixedRouter(),
        checkpointer=RedisSaver.from_url(server.url, prefix=prefix),
        history_factory=history_factory(url=server.url, prefix=prefix),
        **options,
    )


def ask(graph: Any, question: str, thread: str = "t") -> None:
    graph.invoke({"messages": [("user", question)]}, {"configurable": {"thread_id": thread}})


def test_a_turn_is_counted(redis_server: RunningServer, prefix: str, metrics: Metrics) -> None:
    """Turns, groups, model calls, tokens, tools and Redis are counted; nothing that was said is a label."""
    with serving_stub() as stub:
        model = make_chat_model(Settings(ollama_base_url=stub.url, ollama_model="tiny", _env_file=None))
        ask(graph_on(redis_server, prefix, model), "energy: s3cret?")
    scripted = ScriptedModel(script=by_speaker({"energy": calling}), tools=True)
    ask(graph_on(redis_server, prefix, scripted, tools={"energy": [tariff]}), "energy: tariffs?", "u")
    found = samples(metrics)
    assert found["ecowas_turn_seconds_count", ("ok",)] == 2
    assert found["ecowas_group_seconds_count", ("energy", "ok")] == 2
    assert found["ecowas_model_seconds_count", ("tiny", "ok")] == 1
    assert found["ecowas_model_tokens_total", ("input", "tiny")] == 7
    assert found["ecowas_tool_seconds_count", ("ok", "tariff")] == 1
    assert found["ecowas_tool_seconds_count", ("failed", "tariff")] == 1
    assert found["ecowas_redis_seconds_count", ("ok", "checkpoint")] > 4
    assert found["ecowas_redis_seconds_sum", ("ok", "checkpoint")] > 0
    assert b"s3cret" not in metrics.exposition()[0]


def test_a_failed_group_is_counted_as_failed(redis_server: RunningServer, prefix: str, metrics: Metrics) -> None:
    """A failure that the others' answers make up for is a failure of its group, and the turn is well."""
    model = ScriptedModel(script=by_speaker({"protocol": lambda _: ValueError("no")}))
    ask(graph_on(redis_server, prefix, model), "energy+protocol: who pays?")
    found = samples(metrics)
    assert found["ecowas_group_seconds_count", ("protocol", "failed")] == 1
    assert found["ecowas_group_seconds_count", ("energy", "ok")] == 1
    assert found["ecowas_turn_seconds_count", ("ok",)] == 1


def test_what_is_stored_is_read_at_each_scrape(redis_server: RunningServer, prefix: str, metrics: Metrics) -> None:
    """Sessions, threads and waiting approvals are those of the prefix at the time."""
    model = ScriptedModel(script=by_speaker({}))
    before = samples(metrics)
    assert before["ecowas_threads", (prefix,)] == before["ecowas_waiting_approvals", (prefix,)] == 0
    graph = graph_on(redis_server, prefix, model, interrupt_before_release=["energy"])
    ask(graph, "energy: who pays?", "held")
    ask(graph, "protocol: who sits where?", "open")
    found = samples(metrics)
    assert found["ecowas_threads", (prefix,)] == 2
    assert found["ecowas_sessions", (prefix,)] == 1
    assert found["ecowas_waiting_approvals", (prefix,)] == 1
    assert found["ecowas_turn_seconds_count", ("ok",)] == 2
    assert found["ecowas_redis_up", ()] == 1


@pytest.mark.rights("+info", "+dbsize")
def test_memory_is_what_the_server_says(metrics: Metrics) -> None:
    """The server's memory is included if the user may read it."""
    assert samples(metrics)["ecowas_redis_memory_bytes", ()] > 100_000


def test_an_outage_is_counted_and_ends() -> None:
    """While Redis is unavailable, a scrape succeeds and says so; outages and failed attempts are counted."""
    with running_server() as server:
        link = ServerLink(Server.from_url(server.url), "outage")
        metrics = Metrics(link.server, ["outage"])
        try:
            link.replay()
            server.kill()
            with pytest.raises(RedisUnavailableError) as why:
                link.replay()
            link.failed(why.value)
            down = samples(metrics)
            assert down["ecowas_redis_up", ()] == 0
            assert ("ecowas_threads", ("outage",)) not in down
            assert (down["ecowas_outages_total", ()], down["ecowas_servers_down", ()]) == (1, 1)
            assert down["ecowas_redis_failed_attempts_total", ()] > 0
            assert down["ecowas_redis_seconds_count", ("RedisUnavailableError", "memory")] > 0
            server.start()
            wait_until(lambda: link.is_up, "the link")
            up = samples(metrics)
            assert (up["ecowas_outages_total", ()], up["ecowas_servers_down", ()]) == (1, 0)
            assert up["ecowas_redis_up", ()] == 1
        finally:
            metrics.close()
            link.server.close()


def test_nothing_is_counted_after_close(redis_server: RunningServer, prefix: str, metrics: Metrics) -> None:
    """Closed metrics count nothing, and no listener remains."""
    metrics.close()
    assert not _telemetry._observers
    ask(graph_on(redis_server, prefix, ScriptedModel(script=by_speaker({}))), "energy: who pays?")
    assert ("ecowas_turn_seconds_count", ("ok",)) not in samples(metrics)


def test_a_registry_of_your_own(redis_server: RunningServer) -> None:
    """The metrics are in the registry that you pass, together with the application's own."""
    from prometheus_client import CollectorRegistry, Counter

    registry = CollectorRegistry()
    Counter("mine", "My own", registry=registry).inc()
    metrics = Metrics(registry=registry)
    metrics.close()
    text, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert b"mine_total 1.0" in text
    assert b"ecowas_turn_seconds" in text
    assert content_type.startswith("application/openmetrics-text")
