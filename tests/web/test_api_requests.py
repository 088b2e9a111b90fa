"""Requests for what is missing, busy, too early or too late, and the plain functions behind the answers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from langchain_core.messages import AIMessage, HumanMessage
from starlette.requests import ClientDisconnect

from ecowas_lc.documents.answers import message_of
from ecowas_lc.errors import (
    ConfigurationError,
    CorruptDataError,
    EcowasError,
    IncompleteWarning,
    InvalidIdError,
    InvalidInputError,
    MissingExtraError,
    StorageError,
    TooLargeError,
)
from ecowas_lc.storage.keys import Keys
from ecowas_lc.supervisor.nodes import ALLOWED, RECORD
from ecowas_lc.twg import default_groups
from ecowas_lc.web import (
    analytics,
    api,
    charts,
    conversation_page,
    figures_pages,
    middleware,
    pages,
    run_driver,
    serving,
    sessions_page,
    views,
)
from ecowas_lc.web import service as web_service
from ecowas_lc.web.access import list_people_op, networks_of
from ecowas_lc.web.branches import BranchNode, versions_of
from ecowas_lc.web.organisation import PermittedRouter
from ecowas_lc.web.principals import checked_principal
from ecowas_lc.web.problems import UNEXPECTED, NotAllowedError, NotFoundError, problem_for, status_of
from ecowas_lc.web.runs import Run, RunEvent
from ecowas_lc.web.service import LONGEST_QUESTION, checked_question, checked_session
from ecowas_lc.web.texts import texts_of
from tests.fixtures.scripted_model import FixedRouter
from tests.fixtures.servers import RunningServer, wait_until
from tests.web.conftest import Desk, desk_on, scripted
from tests.web.test_page_requests import HTML, signed_in


def test_a_thread_by_its_steps_branches_and_runs(desk: Desk) -> None:
    """Steps are listed in pages, questions are answered again or edited, and a busy session is not forked."""
    client, ama = desk.client, desk.key("ama", "staff")
    asked = desk.ask(ama, "energy: how much?", session="s")
    assert client.get(f"/api/runs/{asked['run']}/events?after=x", headers=ama).status_code == 422
    steps = client.get("/api/threads/s", headers=ama).json()["steps"]
    older = client.get(f"/api/threads/s?before={steps[0]['checkpoint']}", headers=ama).json()
    assert older == {"thread": "s", "head": steps[0]["checkpoint"], "steps": steps[1:]}
    assert client.get("/api/threads/s/state?checkpoint=nope", headers=ama).status_code == 404

    def answered(where: str, **sent: Any) -> int:
        answer = client.post(f"/api/threads/s/{where}", json=sent, headers=ama)
        if answer.status_code == 202:
            client.get(answer.json()["events"], headers=ama)  # to the end of the run
        return answer.status_code

    assert (answered("regenerate"), answered("regenerate", message="nope")) == (202, 404)
    question = client.get("/api/sessions/s", headers=ama).json()["messages"][0]["id"]
    assert answered("edit", message=question, question="energy: and gas?") == 202
    driver = desk.web.service_of(desk.prefix).driver
    run = Run("r" * 32, "s", "ask", "ama", given={"question": "?", "question_id": "q"}, began=time.time())
    desk.web.server.run(driver.programs.start_op(run, "queue"))
    busy = client.post("/api/threads/s/fork", json={"checkpoint": steps[-1]["checkpoint"]}, headers=ama)
    assert (busy.status_code, busy.json()["run"]) == (409, run.id)
    assert client.post(f"/api/runs/{run.id}/cancel", headers=ama).json()["status"] == "cancelling"
    desk.web.server.run(driver.programs.give_up_op(run.id, "s"))

    assert client.get("/api/sessions?active_seconds=0", headers=ama).json()["total"] == 0
    assert client.get("/api/sessions?idle_seconds=1000", headers=ama).json()["total"] == 0
    extended = client.post("/api/sessions/extend", json={"sessions": ["s"], "ttl_seconds": 600}, headers=ama)
    assert extended.status_code == 200
    assert client.get("/api/documents/search?query=%20", headers=ama).status_code == 422
    assert desk.ask(ama, "digital: x?", session="held")["status"] == "waiting"
    early = client.post("/api/chat", json={"question": "energy: y?", "session": "held"}, headers=ama)
    assert (early.status_code, early.json()["error"]) == (409, "DecisionPendingError")


def test_faults_of_the_server_are_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store without figures, a model that is down, a declined answer and a shutdown are shown; a bug is not."""
    client, admin = desk.client, desk.key("root", "admin")
    service = desk.web.service_of(desk.prefix)

    async def no_figures() -> Any:
        raise StorageError("INFO is not permitted.")

    async def is_down() -> bool:
        return False

    monkeypatch.setattr(service.organisation.memory, "get_memory_stats", no_figures)
    monkeypatch.setattr(service, "_model_health", is_down)
    found = client.get("/api/system", headers=admin).json()
    assert (found["memory"], found["model"]["answers"]) == ({"error": "INFO is not permitted."}, False)
    assert "INFO is not permitted." in client.get("/system", headers={**admin, **HTML}).text

    run = Run("d" * 32, "s", "ask", "ama", given={"question": "energy: x?"})
    declined = {"type": "answer", "reports": {"energy": {"declined": True}}}
    client.portal.call(service._count, run, "failed", [declined], 1.0)
    [*_, day] = client.get("/api/analytics?days=1", headers=admin).json()["days"]
    assert day["declined"] == 1
    assert client.get("/analytics", headers={**admin, **HTML}).status_code == 200  # without any duration

    secure = client.get("https://127.0.0.1:8000/health/live")
    assert "strict-transport-security" in secure.headers
    monkeypatch.setattr(desk.web, "service_for", lambda by: 1 / 0)
    broken = client.get("/api/groups", headers=admin)
    assert (broken.status_code, broken.json()["detail"]) == (500, UNEXPECTED)
    desk.web.begin_draining()
    assert client.get("/health/ready").status_code == 503


def test_pages_for_what_is_gone_and_for_too_many_questions(redis_server: RunningServer, prefix: str) -> None:
    """A question from an earlier step branches there; a draft that is gone and too many questions are named."""
    limits = {"web_questions_per_minute": 18}
    with desk_on(redis_server, prefix, settings=limits) as desk:
        client, form = desk.client, {"csrf_token": signed_in(desk, "admin"), "session": "s"}
        client.post("/chat", data={**form, "question": "energy: a?"})
        for run in client.get("/api/runs?session=s").json():
            client.get(f"/api/runs/{run['run']}/events")  # to its end
        steps = client.get("/api/threads/s").json()["steps"]
        forked = {**form, "step": steps[-1]["checkpoint"], "question": "energy: b?"}
        answer = client.post("/thread/fork", data=forked, follow_redirects=False)
        assert (answer.status_code, "thread.forked" in answer.headers["location"]) == (303, True)
        assert client.get(f"/thread?session=s&step={'x' * 2000}", headers=HTML).status_code == 404
        gone = client.post("/approvals/diff", data={**form, "draft": "nope", "text": "x"})
        assert texts_of("en")("approvals.gone") in gone.text
        while client.post("/chat", data={**form, "question": "energy: c?"}).status_code != 429:
            pass
        question, token = {"question": "x"}, {"X-CSRF-Token": form["csrf_token"]}
        for path, sent in {
            "/api/chat/stream": question,
            "/api/runs": question,
            "/api/threads/s/regenerate": {},
            "/api/threads/s/edit": {**question, "message": "m"},
            "/chat/run": {**question, "session": "s"},
        }.items():
            assert client.post(path, json=sent, headers=token).status_code == 429, path
        while client.post("/sign-in", data={"key": "elc_wrong"}).status_code != 429:
            pass


def test_a_conversation_that_others_wrote_to(desk: Desk) -> None:
    """Two answers to a question, a source whose document was removed and a replaced message are all shown."""
    client, call = desk.client, desk.client.portal.call
    signed_in(desk, "admin")
    who = desk.key("root", "admin")
    desk.ask(who, "energy: how much?", session="s")
    service = desk.web.service_of(desk.prefix)
    graph = call(service.organisation.graph)
    thread: Any = {"configurable": {"thread_id": "s"}}
    place = {"document": "gone", "file": "tariffs.pdf", "page": 3, "source_start": 0, "source_end": 9}
    citation: Any = {"number": 1, "start": 0, "end": 3, "cited_text": "118 francs", "title": "Tariffs", **place}
    more = message_of("118 [1].", [citation], id="more", name="energy")
    call(lambda: graph.aupdate_state(thread, {"messages": [more]}, as_node=RECORD))
    page = client.get("/chat?session=s", headers=HTML).text
    assert "Energy says so." in page
    assert "118" in page
    source = client.get("/chat/source?session=s&message=more&number=1", headers=HTML)
    assert (source.status_code, "118 francs" in source.text) == (200, True)
    assert client.get("/chat/source?session=s&message=more&number=2", headers=HTML).status_code == 404
    assert client.get("/chat/why?session=s&message=none", headers=HTML).status_code == 404
    text = f"Date: 3 May 2024\n\n{'Before. ' * 100}The kilowatt-hour costs 118 francs.{' After.' * 100}"
    files = {"file": ("tariffs.md", text.encode())}
    document = client.post("/api/documents", files=files, headers=who).json()["document"]
    dated = message_of("118 [1].", [{**citation, "document": document}], id="dated", name="energy")
    call(lambda: graph.aupdate_state(thread, {"messages": [dated]}, as_node=RECORD))
    source = client.get("/chat/source?session=s&message=dated&number=1", headers=HTML).text
    for part in (f"{texts_of('en')('chat.page', n=3)} · 2024-05-03", "118 francs", "… ", " …", "hour costs"):
        assert part in source
    exported = client.get("/chat/export?session=s").text
    assert f"1. Tariffs, {texts_of('en')('chat.page', n=3)}: “118 francs”" in exported
    changed = AIMessage("119 francs.", id="more", name="energy")
    call(lambda: graph.aupdate_state(thread, {"messages": [changed]}, as_node=RECORD))
    [newest, *_] = client.get("/api/threads/s", headers=who).json()["steps"]
    step = client.get(f"/thread?session=s&step={newest['checkpoint']}", headers=HTML).text
    assert step.count("119 francs.") >= 1
    assert step.count("118 [1].") >= 1
    call(lambda: service.organisation.saver.aprune(["s"]))
    question = client.get("/api/sessions/s", headers=who).json()["messages"][0]["id"]
    edited = client.post("/api/threads/s/edit", json={"message": question, "question": "energy: x?"}, headers=who)
    assert (edited.status_code, "no longer stored" in edited.json()["detail"]) == (404, True)


def test_an_answer_that_a_group_could_not_give_says_why(redis_server: RunningServer, prefix: str) -> None:
    """The explanation of an answer names the group whose view is missing, and what went wrong."""
    model = scripted(minerals=RuntimeError("no seam"))
    with desk_on(redis_server, prefix, model=model) as desk:
        signed_in(desk, "admin")
        answer = desk.ask(desk.key("root", "admin"), "energy+minerals: how much?", session="s")
        why = desk.client.get(f"/chat/why?session=s&message={answer['message']['id']}", headers=HTML)
        assert texts_of("en")("chat.missing") in why.text
        assert "no seam" in why.text


def test_a_decision_under_way_is_followed_at_its_turn() -> None:
    """While a decision is applied, the page follows that run at the turn of its draft."""
    one: Any = SimpleNamespace(url=lambda path, **_: path)
    turn = views.TurnView("a", "q", "How much?")
    conversation_page._place_runs(one, [turn], [Run("d" * 32, "s", "decide", "ama")])
    assert turn.run is not None
    assert turn.run.id == "d" * 32


@pytest.mark.parametrize(("role", "found"), [("staff", NotFoundError), ("admin", None)])
def test_two_users_begin_one_session(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, role: str, found: type[Exception] | None
) -> None:
    """A session belongs to the user who began it first; the other gets a not-found error, unless an admin."""
    service = desk.web.service_of(desk.prefix)
    first = checked_principal("kofi", ["staff"], desk.prefix, None)
    second = checked_principal("ama", [role], desk.prefix, None)

    async def begun_meanwhile(session: str) -> bool:
        monkeypatch.undo()
        await service._own(first, session, make=True, title="x")
        return False

    async def begin() -> list[Any]:
        return await asyncio.gather(service._own(second, "shared", make=True, title="x"), return_exceptions=True)

    monkeypatch.setattr(service, "_exists", begun_meanwhile)
    [error] = desk.client.portal.call(begin)
    assert (None if error is None else type(error)) is found
    assert desk.client.portal.call(service._own, first, "shared") is None


async def test_turns_of_a_thread_that_forked_after_an_answer() -> None:
    """The turn that forks is the next question's on the current branch, if there is one."""
    asked, said = HumanMessage("a?", id="1"), AIMessage("A.", id="2")
    held = {"1": [asked, said], "2": [asked, said, HumanMessage("b?", id="3")], "3": [asked, said, said], "4": []}

    async def state_at(name: str) -> Any:
        return SimpleNamespace(values={"messages": held[name]}, next=())

    nodes = [BranchNode("1", "", "loop"), BranchNode("2", "1", "loop"), BranchNode("3", "1", "loop")]
    assert (await versions_of(nodes, "2", state_at))["3"].number == 1
    held["2"] = [asked, said, AIMessage("C.", id="5")]
    assert await versions_of(nodes, "2", state_at) == {}


def test_a_bug_while_looking_for_runs_is_logged_and_ends_nothing(
    redis_server: RunningServer, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service keeps looking for work, and answers."""

    async def fail(_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("ecowas_lc.web.run_driver.Driver.take_over", fail)
    with desk_on(redis_server, prefix) as desk:
        wait_until(lambda: "Can't look for runs of other processes." in caplog.text, "the log")
        assert desk.client.get("/health/live").status_code == 200


async def test_a_run_that_may_not_go_on_is_left_to_its_new_owner() -> None:
    """A process does not end a run that another process has taken over."""

    async def lose() -> None:
        raise run_driver.LostError("taken over")

    driver: Any = object.__new__(run_driver.Driver)
    work = asyncio.create_task(lose())
    await asyncio.wait([work])
    with pytest.raises(run_driver.LostError):
        await driver._finish(Run("r" * 32, "s", "ask", "ama"), None, None, work, 1.0)


def test_a_question_of_no_group_of_the_user_is_refused_either_way() -> None:
    """Blocking routing is limited to the groups that the user may ask, like the service's own."""
    router = PermittedRouter(FixedRouter())
    config: Any = {"configurable": {ALLOWED: ("energy",)}}
    assert router.route("energy+digital: x?", config).groups == ("energy",)
    with pytest.raises(NotAllowedError, match="concerns digital"):
        router.route("digital: x?", config)


def test_figures_of_any_size() -> None:
    """A size in bytes has its unit; a figure that can't be read is an error, unless its type is wrong."""
    texts = texts_of("en")
    assert [figures_pages._figure(texts, "used_memory_bytes", size) for size in (12, 1200)] == [
        "12\u00a0B",
        "1.2\u00a0kB",
    ]
    away = StorageError("away")
    with pytest.raises(StorageError):
        analytics._figures("2026-01-01", away)
    counting = analytics.count_op(Keys("p"), {"sessions": 1})
    next(counting)
    with pytest.raises(StorageError):
        counting.send([away, 1])
    speakers = views.Speakers({each.id: each for each in default_groups()}, texts)
    assert pages._asked_groups("@energy @nobody how?", speakers) == ("@nobody how?", ["energy"])
    assert web_service._text(b"\xff", b"title") == ""


def test_what_a_service_may_lack(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without documents or a meter of its own it answers; a reader who leaves, and a lost session, are named."""
    client, who = desk.client, desk.key("root", "admin")
    signed_in(desk, "admin")
    organisation = desk.web.service_of(desk.prefix).organisation
    with monkeypatch.context() as patched:
        patched.setattr(type(organisation), "documents", None)
        for session in ("a", "b"):
            assert desk.ask(who, "energy: x?", session=session)["status"] == "done"
        assert client.get("/api/documents", headers=who).json() == []
        assert client.get("/api/documents/search", params={"query": "x"}, headers=who).json() == []
        refused = client.post("/api/documents", files={"file": ("x.md", b"x")}, headers=who)
        assert refused.status_code == status_of(MissingExtraError())
        assert "pip install" in refused.json()["detail"]
    monkeypatch.setattr(sessions_page, "_SESSIONS_A_PAGE", 1)
    assert "at=1" in client.get("/sessions", headers=HTML).text
    monkeypatch.setattr(desk.web, "metrics", None)
    assert "ecowas" in client.get("/metrics", headers=who).text
    keys = desk.web.service_of(desk.prefix).driver.programs.keys
    with redis.Redis.from_url(desk.url) as raw:
        raw.set(keys.session_of_run("r" * 32), "")
    with pytest.raises(CorruptDataError, match="session of the run"):
        desk.web.server.run(desk.web.service_of(desk.prefix).driver.programs.find_op("r" * 32))

    async def leave(*_: Any) -> None:
        raise ClientDisconnect

    monkeypatch.setattr(middleware, "_answered", leave)
    assert client.get("/api/groups", headers=who).status_code == 400


async def test_a_wait_that_a_shutdown_ends_says_that_the_run_continues() -> None:
    """The caller is told to come back: another process has the run."""

    class Draining:
        async def events(self, run: Run) -> AsyncIterator[RunEvent | None]:
            yield None

    answer = await api._whole(Draining(), Run("r" * 32, "s", "ask", "ama"))  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_names_that_are_no_users_sign_nobody_in(desk: Desk) -> None:
    """A name that can't be one, a cookie of other bytes, and a damaged entry are skipped."""
    access, call = desk.web.access, desk.client.portal.call
    assert [call(access.of_proxy, name) for name in (" ", "x" * 201, "a\nb")] == [None] * 3
    assert call(access.of_cookie, "é") is None
    desk.web.server.run(broken_user_op(access.keys.access_people()))
    with pytest.warns(IncompleteWarning, match="The user 'broken'"):
        assert desk.web.server.run(list_people_op(access.keys)) == []


def broken_user_op(key: bytes) -> Any:
    """A program that stores a user that can't be read."""
    from ecowas_lc.storage.ops import command

    yield (command("HSET", key, b"broken", b"["),)


@pytest.mark.parametrize("text", ["10.0.0.0/99", "nowhere"])
def test_a_network_that_is_none_is_named(text: str) -> None:
    """The message has the setting and the wrong entry."""
    with pytest.raises(ConfigurationError, match=f"ECOWAS_LC_WEB_PROXIES.*{text}"):
        networks_of(f"127.0.0.1, {text}")


def test_ids_and_questions_are_limited_texts() -> None:
    """Lone surrogates and texts that are too long are refused before anything is stored."""
    with pytest.raises(InvalidIdError, match="UTF-8"):
        checked_session("\ud800")
    for question in ("\ud800", "x" * (LONGEST_QUESTION + 1)):
        with pytest.raises(InvalidInputError, match="question"):
            checked_question(question)


def test_statuses_of_errors() -> None:
    """An error of this package has a status, at worst 500; any other error has no problem details."""
    assert (status_of(TooLargeError("x")), status_of(EcowasError("x"))) == (413, 500)
    assert problem_for(ValueError("x")) is None


def test_a_limit_remembers_only_so_many_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are made up don't fill the memory; the oldest are forgotten."""
    monkeypatch.setattr(middleware, "_MOST_KNOWN", 2)
    rate = middleware.Rate(6)
    assert [rate.wait_seconds(who) for who in ("a", "b", "c", "a")] == [0.0] * 4


def test_addresses_to_listen_on() -> None:
    """A name of this machine is local, and an address in use is refused by name."""
    assert serving.is_loopback("localhost")
    assert not serving._is_in_loop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Can't listen on 127.0.0.1:{port}"):
            serving.listening("127.0.0.1", port)


def test_values_as_pages_show_them() -> None:
    """Times that are none, long differences, other values and empty figures have a plain form."""
    texts = texts_of("en")
    assert views.moment_of("yesterday", texts) is None
    assert views.difference_html("a " * 3000, "b " * 3000).count("<del>") == 1
    assert (views.value_text("x"), views.value_text([1])) == ("x", "[\n  1\n]")
    assert views.percentile({}, 0.5) is None
    assert charts._scale(0) == (1.0, [0.0, 1.0])
    assert (texts.lasts(None), texts.lasts(0.5)) == (texts("common.never"), texts("time.lasts_seconds", n=0))
    assert texts.moment(None) is None
