"""A run goes on when connections break or processes end: each reader gets the complete answer, stored once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from ecowas_lc.web import run_driver
from tests.fixtures.servers import running_server, wait_until
from tests.web.conftest import Processes, bearer, make_key, processes_on
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
    """Two processes that no test ends; in the first, energy is held up in the middle of its message."""
    folder = tmp_path_factory.mktemp("both")
    with running_server("redis") as server, processes_on(server.url, "tboth", folder) as found:
        found.start_all({"holds": "energy", "held": ["protocol"]}, {"held": ["protocol"]})
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
    first, second = anywhere.start_all({"holds": "digital"}, {"holds": "digital"})
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
    first, second = processes.start_all({"holds": "energy"}, {})
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
    first, second = processes.start_all({"holds": "energy", "drain_seconds": drain_seconds}, {})
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
    options = {"held": ["energy"], "holds": "synthesis"}
    first, second = processes.start_all(options, options)
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
        process = found.start(holds="energy", settings=limits)
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
    first, second = processes.start_all({"holds": "energy"}, {})
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
    first, second = processes.start_all({"holds": "digital"}, {})
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
