"""A run goes on when connections break or processes end: each reader gets the complete answer, stored once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage

from ecowas_lc.agents.events import Finished, ToolCalled, ToolReturned
from ecowas_lc.errors import InvalidInputError, NotWaitingError, RedisUnavailableError, StorageError
from ecowas_lc.storage.ops import command
from ecowas_lc.web import run_driver, run_events
from ecowas_lc.web.problems import UNEXPECTED
from ecowas_lc.web.runs import Run, RunEvent, RunPrograms
from tests.fixtures.servers import running_server, wait_until
from tests.web.conftest import Desk, Processes, bearer, make_key, parsed, processes_on
from tests.web.program import HELD_AFTER, said

BOTH = "energy+digital: what now?"


def texts(events: list[Any]) -> dict[str, str]:
    """A reader's text of each message: a cut discards the text so far."""
    found: dict[str, str] = {}
    for _, kind, data in events:
        if kind == "token":
            found[data["message"]] = found.get(data["message"], "") + data["text"]
        elif kind == "cut":
            for message in data["messages"]:
                found.pop(message, None)
    return found


def check_whole(events: list[Any], *answers: str) -> None:
    """The stream has each event once, in order, ends once, and a reader has the groups' messages, complete."""
    ids = [tuple(map(int, event[0].split("-"))) for event in events]
    assert ids == sorted(set(ids))
    kinds = [kind for _, kind, _ in events]
    assert kinds.count("begun") == kinds.count("answer") == kinds.count("done") == 1
    assert kinds[-2:] == ["answer", "done"]
    own = {data["message"] for _, kind, data in events if kind == "token" and data["speaker"] != "synthesis"}
    assert sorted(text for message, text in texts(events).items() if message in own) == sorted(answers)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Two processes that no test ends; energy is held up in the middle of its message."""
    folder = tmp_path_factory.mktemp("both")
    with running_server("redis") as server, processes_on(server.url, "tboth", folder) as found:
        found.start(2, holds="energy", held=["protocol"])
        yield found


@pytest.fixture
def pair(both: Processes) -> Processes:
    both.begin_anew()
    return both


@pytest.fixture(params=["single", "cluster"])
def anywhere(request: pytest.FixtureRequest, prefix: str, tmp_path: Path) -> Iterator[Processes]:
    """Processes on a single server and on a cluster."""
    server = request.getfixturevalue("redis_server" if request.param == "single" else "cluster")
    if request.param == "single":
        server.limit(prefix)
    with processes_on(server.url, prefix, tmp_path) as found:
        yield found


def test_a_killed_process_costs_no_answer(anywhere: Processes) -> None:
    """Another process takes over in the middle of a message: the reader continues there and gets the whole answer
    once, and no group that has answered is asked again.
    """
    first, second = anywhere.start(2, holds="digital")
    run = anywhere.ask(first, BOTH).json()["run"]
    anywhere.wait_held()
    seen: set[str] = set()

    def is_half_way(event: Any) -> bool:
        if event[1] == "finished":
            seen.add(event[2]["speaker"])
        if event[1] == "token" and event[2]["speaker"] == "digital":
            seen.add("digital")
        return {"energy", "digital"} <= seen

    before = anywhere.events(first, run, until=is_half_way)
    first.kill()
    anywhere.go()
    after = anywhere.events(second, run, before[-1][0])
    whole = before + after
    kinds = [kind for _, kind, _ in whole]
    assert kinds.count("cut") == 1
    check_whole(whole, said("energy"), said("digital"))
    assert whole[-2][2]["message"]["text"]
    assert sorted(anywhere.calls()) == ["digital", "digital", "energy", "synthesis"]
    assert anywhere.events(second, run) == whole
    assert anywhere.started[1].popen.poll() is None


def test_a_reader_goes_on_where_it_stopped(pair: Processes) -> None:
    """From any process, the events before and after the last id form the stream, whatever the id."""
    first, second = pair.started
    pair.go()
    run = pair.ask(first, BOTH).json()["run"]
    whole = pair.events(first, run)
    check_whole(whole, said("energy"), said("digital"))
    for place, event in enumerate(whole[:-1]):
        assert pair.events((first, second)[place % 2], run, event[0]) == whole[place + 1 :]
    assert pair.events(second, run, whole[-1][0]) == []


def test_a_run_goes_on_when_nobody_reads(pair: Processes) -> None:
    """The reader disconnects in the middle of the answer; the run still ends, and its answer is stored."""
    process = pair.started[0]
    headers = pair.headers
    body = {"question": "energy: one?", "session": "unread"}
    with httpx.stream(
        "POST", f"{process.address}/api/chat/stream", json=body, headers=headers, timeout=30
    ) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if "event: token" in line:
                break
    pair.go()
    [run] = httpx.get(f"{process.address}/api/runs", params={"session": "unread"}, headers=headers).json() or [{}]
    if run:
        check_whole(pair.events(process, run["run"]), said("energy"))
    wait_until(lambda: not _open(pair, process, "unread"), "the run's end")
    shown = httpx.get(f"{process.address}/api/sessions/unread", headers=headers).json()
    assert [message["text"] for message in shown["messages"]] == ["energy: one?", said("energy")]


def _open(processes: Processes, process: Any, session: str) -> list[Any]:
    answer = httpx.get(f"{process.address}/api/runs", params={"session": session}, headers=processes.headers)
    return answer.json()


def test_cancelled_from_another_process(pair: Processes) -> None:
    """A run can be stopped from any process; its text so far stays, and the session continues."""
    first, second = pair.started
    run = pair.ask(first, "energy: one?", session="cancelled").json()["run"]
    pair.wait_held()
    pair.events(first, run, until=lambda event: event[1] == "token")
    answer = httpx.post(f"{second.address}/api/runs/{run}/cancel", headers=pair.headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    events = pair.events(second, run)
    assert events[-1][1:] == ("done", {"type": "done", "status": "cancelled"})
    assert httpx.get(f"{second.address}/api/runs/{run}", headers=pair.headers).json()["status"] == "cancelled"
    shown = httpx.get(f"{second.address}/api/sessions/cancelled", headers=pair.headers).json()
    half = " ".join(said("energy").split()[:HELD_AFTER])
    assert [message["text"] for message in shown["messages"]] == ["energy: one?", f"{half} […]"]
    pair.go()
    run = pair.ask(second, "energy: two?", session="cancelled").json()["run"]
    check_whole(pair.events(second, run), said("energy"))


def test_two_questions_at_once(pair: Processes) -> None:
    """The second question is refused with the id of the current run, or waits for its turn, in any process; one
    that waits can be cancelled before it begins.
    """
    first, second = pair.started
    one = pair.ask(first, "energy: one?", session="busy").json()["run"]
    pair.wait_held()
    for process in (first, second):
        refused = pair.ask(process, "energy: two?", session="busy")
        assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
        assert refused.json()["run"] == one
    two = pair.ask(second, "digital: two?", session="busy", on_busy="queue").json()["run"]
    three = pair.ask(first, "digital: three?", session="busy", on_busy="queue").json()["run"]
    waiting = [run["run"] for run in _open(pair, first, "busy")]
    assert waiting == [one, two, three]
    cancelled = httpx.post(f"{second.address}/api/runs/{three}/cancel", headers=pair.headers).json()
    assert cancelled["status"] == "cancelled"
    assert pair.calls() == ["energy"]
    pair.go()
    check_whole(pair.events(first, two), said("digital"))
    shown = httpx.get(f"{first.address}/api/sessions/busy", headers=pair.headers).json()["messages"]
    assert [message["text"] for message in shown] == [
        "energy: one?",
        said("energy"),
        "digital: two?",
        said("digital"),
    ]
    assert [kind for _, kind, _ in pair.events(first, three)] == ["begun", "done"]


def test_a_question_that_waits_outlives_its_process(processes: Processes) -> None:
    """Its turn comes in another process, after that of the run before it, which was cut off with it."""
    first, second = processes.start(2, holds="energy")
    processes.ask(first, "energy: one?", session="s")
    processes.wait_held()
    two = processes.ask(first, "digital: two?", session="s", on_busy="queue").json()["run"]
    first.kill()
    processes.go()
    check_whole(processes.events(second, two), said("digital"))
    shown = httpx.get(f"{second.address}/api/sessions/s", headers=processes.headers).json()["messages"]
    assert [message["text"] for message in shown] == [
        "energy: one?",
        said("energy"),
        "digital: two?",
        said("digital"),
    ]


@pytest.mark.parametrize("drain_seconds", [0.0, 30.0])
def test_a_process_that_is_drained_loses_nothing(processes: Processes, drain_seconds: float) -> None:
    """On shutdown, a process takes no new runs and ends its streams; runs end in time, or in another process."""
    first, second = processes.start(2, holds="energy", drain_seconds=drain_seconds)
    run = processes.ask(first, "energy: one?", session="s").json()["run"]
    processes.wait_held()
    before = processes.events(first, run, until=lambda event: event[1] == "token")
    first.terminate()
    if not drain_seconds:
        assert first.wait() in (0, -signal.SIGTERM)
    processes.go()
    after = processes.events(second, run, before[-1][0])
    check_whole(before + after, said("energy"))
    assert first.wait() in (0, -signal.SIGTERM)
    assert processes.calls() == ["energy"] * (1 if drain_seconds else 2)


def test_a_draft_is_decided_on_once(pair: Processes) -> None:
    """A draft is decided on once, from any process: the second decision is refused as too late."""
    first, second = pair.started
    reviewer = bearer(make_key(pair.url, pair.prefix, "kofi", "reviewer"))
    run = pair.ask(first, "protocol: one?", session="decided").json()["run"]
    assert pair.events(first, run)[-1][2]["status"] == "waiting"
    [draft] = httpx.get(f"{second.address}/api/approvals", headers=reviewer).json()
    body = {"session": "decided", "draft": draft["draft"]}
    begun = time.monotonic()
    answers = [
        httpx.post(f"{process.address}/api/approvals/approve", json=body, headers=reviewer, timeout=30)
        for process in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert time.monotonic() - begun < 30
    shown = httpx.get(f"{second.address}/api/sessions/decided", headers=pair.headers).json()["messages"]
    assert [message["text"] for message in shown] == ["protocol: one?", said("protocol")]
    assert pair.calls() == ["protocol"]


def test_a_decision_outlives_its_process(processes: Processes) -> None:
    """The process is killed after a draft was approved, while the answers are combined: another one
    releases it, once, and asks no group again.
    """
    first, second = processes.start(2, held=["energy"], holds="synthesis")
    reviewer = bearer(make_key(processes.url, processes.prefix, "kofi", "reviewer"))
    run = processes.ask(first, BOTH, session="s").json()["run"]
    assert processes.events(first, run)[-1][2]["status"] == "waiting"
    [draft] = httpx.get(f"{second.address}/api/approvals", headers=reviewer).json()
    body = {"session": "s", "draft": draft["draft"]}

    def approve() -> None:
        with suppress(httpx.HTTPError):  # it is killed before it answers
            httpx.post(f"{first.address}/api/approvals/approve", json=body, headers=reviewer, timeout=30)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(approve)
        processes.wait_held()
        [deciding] = _open(processes, second, "s")
        first.kill()
    processes.go()
    wait_until(lambda: not _open(processes, second, "s"), "the run's end")
    shown = httpx.get(f"{second.address}/api/sessions/s", headers=processes.headers).json()["messages"]
    assert [message["speaker"] for message in shown] == ["user", "supervisor"]
    assert said("synthesis") in shown[-1]["text"]
    assert sorted(processes.calls()) == ["digital", "energy", "synthesis", "synthesis"]
    again = httpx.post(f"{second.address}/api/approvals/approve", json=body, headers=reviewer, timeout=30)
    assert again.status_code == 409
    assert deciding["kind"] == "decide"


def test_an_outage_of_redis_costs_no_answer(tmp_path: Path) -> None:
    """Redis hangs in the middle of an answer: the run continues when it is back, and the answer is stored once;
    meanwhile the service says what is wrong.
    """
    with running_server("redis") as server, processes_on(server.url, "toutage", tmp_path) as found:
        limits = {"redis_socket_timeout": 0.3, "redis_connect_timeout": 0.3}
        [process] = found.start(holds="energy", settings=limits)
        run = found.ask(process, "energy: one?", session="s").json()["run"]
        found.wait_held()
        before = found.events(process, run, until=lambda event: event[1] == "token")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            found.go()
            wait_until(lambda: "can't be stored" in process.log.read_text(), "the process notices")
            answer = httpx.get(f"{process.address}/health", timeout=30)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            answer = httpx.get(f"{process.address}/api/sessions", headers=found.headers, timeout=30)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        finally:
            server.process.send_signal(signal.SIGCONT)
        after = found.events(process, run, before[-1][0])
        check_whole(before + after, said("energy"))


def test_a_process_that_was_stopped_takes_nothing_back(processes: Processes) -> None:
    """A process that hung for longer than its lease finds its run taken, adds nothing to it, and keeps working."""
    first, second = processes.start(2, holds="energy")
    run = processes.ask(first, "energy: one?", session="s").json()["run"]
    processes.wait_held()
    processes.events(first, run, until=lambda event: event[1] == "token")
    first.popen.send_signal(signal.SIGSTOP)
    try:
        processes.go()
        whole = processes.events(second, run)
    finally:
        first.popen.send_signal(signal.SIGCONT)
    check_whole(whole, said("energy"))
    wait_until(lambda: "taken over the run" in first.log.read_text(), "the process notices")
    assert processes.events(first, run) == processes.events(second, run) == whole
    later = processes.ask(first, "energy: two?", session="s").json()["run"]
    check_whole(processes.events(second, later), said("energy"))
    shown = httpx.get(f"{second.address}/api/sessions/s", headers=processes.headers).json()["messages"]
    told = [message["text"] for message in shown]
    assert told == ["energy: one?", said("energy"), "energy: two?", said("energy")]


def test_a_branch_outlives_its_process(processes: Processes) -> None:
    """An edited question is answered on its branch even if the process was killed."""
    first, second = processes.start(2, holds="digital")
    run = processes.ask(first, "energy: one?", session="s").json()["run"]
    question = processes.events(first, run)[0][2]["question_id"]
    body = {"message": question, "question": BOTH}
    address = f"{first.address}/api/threads/s/edit"
    run = httpx.post(address, json=body, headers=processes.headers, timeout=30).json()["run"]
    processes.wait_held()
    first.kill()
    processes.go()
    events = processes.events(second, run)
    assert events[-1][2]["status"] == "done"
    shown = httpx.get(f"{second.address}/api/sessions/s", headers=processes.headers).json()["messages"]
    assert shown[0]["text"] == BOTH
    assert len(shown) == 2


def test_a_run_that_has_ended_is_not_listed_as_open_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report that this process's runs are alive leaves out a run whose end is stored."""
    web, ama = desk.web, desk.key("ama", "staff")
    driver = web.service_of(desk.prefix).driver
    open_runs: list[Any] = []

    async def reported(*_: Any) -> None:
        await driver.take_over()
        open_runs.append(await driver.organisation.run(driver.programs.orphans_op(-1)))

    monkeypatch.setattr(driver, "_on_end", reported)
    desk.ask(ama, "energy: how much?")
    wait_until(lambda: open_runs, "the run has ended")
    assert open_runs == [[]]


async def test_a_task_that_loses_its_cancellation_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown waits for no task forever: one whose inner wait ended as it was cancelled is cancelled again."""
    monkeypatch.setattr(run_driver, "_CANCEL_AGAIN_SECONDS", 0.01)
    lost: list[str] = []

    async def work() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append("a cancellation")

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while it ended")

    tasks = [asyncio.create_task(each) for each in (work(), failing(), asyncio.sleep(0))]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await run_driver.end_tasks(*tasks)
    assert all(task.done() for task in tasks)
    assert tasks[0].cancelled()


def test_messages_that_no_speaker_finished_are_cut() -> None:
    """After an interruption, readers drop the text of speakers that had not finished, each message once."""
    rows = [
        {"type": "token", "message": "a", "speaker": "energy"},
        {"type": "token", "message": "b", "speaker": "minerals"},
        {"type": "finished", "speaker": "energy"},
        {"type": "token", "message": "c", "speaker": "digital"},
    ]
    events = [RunEvent(f"1-{number}", row) for number, row in enumerate(rows)]
    assert run_driver._unfinished(events) == ["b", "c"]
    cut = RunEvent("1-9", {"type": "cut", "messages": ["b"]})
    assert run_driver._unfinished([*events, cut]) == ["c"]


async def raising(error: Exception) -> AsyncIterator[Any]:
    raise error
    yield


def test_a_run_that_fails_is_ended_with_its_reason(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug, too many attempts and a thread that another program holds end the run, and not the service."""
    ama, service = desk.key("ama", "staff"), desk.web.service_of(desk.prefix)
    driver, server = service.driver, desk.web.server

    def ask(session: str) -> tuple[int, str]:
        answer = desk.client.post("/api/chat", json={"question": "energy: x?", "session": session}, headers=ama)
        return answer.status_code, answer.json()["detail"]

    with monkeypatch.context() as patched:
        patched.setattr(run_driver.Playing, "events", lambda _: 1 / 0)
        assert ask("bug") == (500, UNEXPECTED)
        away = RedisUnavailableError("Redis is away again.")
        tried: list[object] = []
        patched.setattr(run_driver.Playing, "events", lambda playing: tried.append(playing) or raising(away))
        patched.setattr(run_driver, "_MOST_OUTAGES", 2)
        status, detail = ask("outages")
        assert (status, "away again" in detail, len(tried)) == (503, True, 3)
    assert service.organisation.saver.leases.hold("held", "another", 60.0)
    monkeypatch.setattr(run_driver, "_THREAD_WAIT_SECONDS", 0.0)
    assert ask("held")[0] == 409
    run = Run("r" * 32, "tired", "ask", "ama", given={"question": "?", "question_id": "q"}, began=time.time())
    server.run(driver.programs.start_op(run, "queue"))
    server.run(iter_of(command("HSET", driver.programs.keys.served_run("tired", run.id), "attempt", 5)))
    desk.client.portal.call(adopted, driver, run.id, "tired")
    [*_, error, done] = events_of(desk, ama, run.id)
    assert "5 processes ended while executing it" in error["detail"]
    assert done["status"] == "failed"
    with monkeypatch.context() as patched:
        patched.setattr(driver, "_claimed", lambda *_: 1 / 0)
        desk.client.portal.call(adopted, driver, "s" * 32, "bug")
    assert f"The run {'s' * 32} failed." in caplog.text
    driver.stop_serving()
    assert ask("late")[0] == 503


def test_a_run_waits_for_its_thread_and_stops_when_it_is_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begins when another program has released its thread; the first event after a cancellation ends it."""
    ama, service = desk.key("ama", "staff"), desk.web.service_of(desk.prefix)
    driver, leases, hold = service.driver, service.organisation.saver.leases, service.driver._hold
    done: list[str] = []

    async def held_once(run: Run) -> bool:
        is_held = await hold(run)
        done.append("held" if is_held else "waits")
        await leases.arelease("s", "another")
        return is_held

    async def cancelled_meanwhile(playing: run_driver.Playing) -> AsyncIterator[dict[str, Any]]:
        done.append("begins")
        await driver.organisation.run(driver.programs.cancel_op(playing._run))
        yield {"type": "route", "groups": ["energy"]}
        done.append("goes on")

    assert leases.hold("s", "another", 60.0)
    monkeypatch.setattr(driver, "_hold", held_once)
    monkeypatch.setattr(run_driver.Playing, "events", cancelled_meanwhile)
    assert desk.ask(ama, "energy: x?", session="s")["status"] == "cancelled"
    assert done[:3] == ["waits", "held", "begins"]
    assert "goes on" not in done


def test_a_server_that_is_away_for_a_moment_ends_no_run(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claiming a run and reading its events are tried again; a reader hears that the stream is alive."""
    driver = desk.web.service_of(desk.prefix).driver
    monkeypatch.setattr(run_driver, "_STORAGE_RETRY_SECONDS", 0.01)
    failed: list[str] = []
    monkeypatch.setattr(RunPrograms, "claim_op", away_once("claim_op", RunPrograms.claim_op, failed))
    assert desk.ask(desk.key("ama", "staff"), "energy: x?")["status"] == "done"
    run = Run("r" * 32, "waits", "ask", "ama", given={"question": "?", "question_id": "q"}, began=time.time())
    desk.web.server.run(driver.programs.start_op(run, "queue"))

    async def heard() -> list[Any]:
        async with aclosing(driver.follow(run, beat_seconds=0.05)) as events:
            first = await anext(events)
            monkeypatch.setattr(RunPrograms, "events_op", away_once("events_op", RunPrograms.events_op, failed))
            return [first, *[await anext(events) for _ in range(8)]]

    first, *beats = desk.client.portal.call(heard)
    assert (first.type, beats) == ("begun", [None] * 8)
    assert failed == ["claim_op", "events_op"]


async def test_a_writer_reports_what_broke_it() -> None:
    """A token that can't be stored ends the attempt, and an endless answer is stored only up to the limit."""

    class Away:
        async def stored(self, *_: Any) -> bool:
            raise OSError("gone")

    run, feed = Run("r" * 32, "s", "ask", "ama"), run_driver.Feed("r" * 32, "s")
    writer = run_driver._Writer(Away(), run, feed)  # type: ignore[arg-type]
    await writer.add({"type": "token", "message": "m", "text": "a"})
    await asyncio.wait([writer._flusher])
    with pytest.raises(OSError, match="gone"):
        await writer.add({"type": "token", "message": "m", "text": "b"})
    writer.broken, writer._number = None, run_driver.MOST_EVENTS + 1
    await writer.add({"type": "token", "message": "m", "text": "c"})
    assert writer._waiting == []


async def adopted(driver: Any, run_id: str, session: str) -> None:
    """Let this process drive a run, to its end."""
    driver._adopt(run_id, session)
    await asyncio.wait([driver._tasks[run_id]])


def iter_of(*batch: Any) -> Any:
    yield batch


def events_of(desk: Desk, who: dict[str, str], run_id: str) -> list[Any]:
    """The data of a run's events."""
    with desk.client.stream("GET", f"/api/runs/{run_id}/events", headers=who) as answer:
        return [data for _, _, data in parsed(answer.iter_lines())]


def away_once(name: str, op: Any, failed: list[str]) -> Any:
    """A program that finds no server the first time."""

    def program(*given: Any) -> Any:
        if name not in failed:
            failed.append(name)
            raise StorageError("The server is away.")
        return (yield from op(*given))

    return program


async def test_a_run_begins_where_its_thread_stands() -> None:
    """A decision that another process applied is not applied again; a question that was overtaken is refused."""
    shown = {"draft": "d", "group": "energy"}
    waits = SimpleNamespace(interrupts=[SimpleNamespace(id="i", value=shown)])
    assert run_events.waiting_events(waits) == [{"type": "waiting", **shown}]  # type: ignore[arg-type]
    assert run_events.answer_event({"messages": [HumanMessage("x")]}) is None
    final = AIMessage("A.", name="energy", response_metadata={"groups": ["energy"]})
    assert run_events.message_as_json(final)["groups"] == ["energy"]

    def playing(kind: str, attempt: int = 1, **given: Any) -> Any:
        run = Run("r" * 32, "s", kind, "ama", given=given, attempt=attempt)
        return run_events.Playing(SimpleNamespace(), run)  # type: ignore[arg-type]

    messages = [HumanMessage("a?", id="1"), AIMessage("A.", id="2"), HumanMessage("b?", id="3")]
    state = SimpleNamespace(
        interrupts=(), next=(), values={"messages": messages}, config={"configurable": {"checkpoint_id": "c"}}
    )
    again = playing("decide", attempt=2, request="i")
    assert await again._input(None, state) == (None, again.config, True)
    with pytest.raises(NotWaitingError):
        await playing("decide", request="i")._input(None, state)
    [_, _, is_done] = await playing("regenerate", head="older")._input(None, state)
    assert is_done
    with pytest.raises(InvalidInputError, match="Another question was asked"):
        await playing("ask", question="a?", question_id="1")._input(None, state)
    called = ToolCalled("energy", "1", "add", {})
    assert run_events._stored_event(called) == {"type": "tool_call", "group": "energy", "id": "1", "name": "add"}
    returned = ToolReturned("energy", "1", "add", "5", "success")
    assert run_events._stored_event(returned) == {
        "type": "tool_result",
        "group": "energy",
        "id": "1",
        "name": "add",
        "status": "success",
    }
    assert run_events._stored_event(Finished("", "", "", "", (), "", "")) is None


PLACE = {"configurable": {"checkpoint_id": "c"}}


async def test_a_run_without_an_answer_or_a_turn_to_end() -> None:
    """A graph that ends without an answer fails by name, and a run that has ended gets no partial answer."""
    state = SimpleNamespace(
        next=(), interrupts=(), values={"messages": [HumanMessage("a?", id="q")]}, config=PLACE
    )
    updated: list[Any] = []

    class Graph:
        async def aget_state(self, _: Any) -> Any:
            return state

        async def aupdate_state(self, *given: Any, **_: Any) -> None:
            updated.append(given)

    async def graph() -> Graph:
        return Graph()

    run = Run("r" * 32, "s", "ask", "ama", given={"question": "a?", "question_id": "q"})
    playing = run_events.Playing(SimpleNamespace(graph=graph), run)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="ended without an answer"):
        [event async for event in playing.events()]
    await playing.keep_partial()
    assert updated == []


def test_waiting_for_a_run_has_a_limit(desk: Desk) -> None:
    """A decision returns within a few seconds, with a status that says if the run is still open."""
    service = desk.web.service_of(desk.prefix)
    run = Run("w" * 32, "s", "ask", "ama", given={"question": "?", "question_id": "q"}, began=time.time())
    desk.web.server.run(service.driver.programs.start_op(run, "queue"))
    found = desk.client.portal.call(service.finished, None, run, 0.05)
    assert (found.id, found.status) == (run.id, "open")
