"""A service with a scripted model, and a real Chromium that opens its pages."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pydantic import PrivateAttr

from ecowas_lc.settings import load_settings
from ecowas_lc.storage.keys import Keys
from ecowas_lc.storage.server import Server
from ecowas_lc.web import create_app
from ecowas_lc.web.access import add_key_op
from ecowas_lc.web.middleware import Rate
from ecowas_lc.web.principals import checked_principal
from ecowas_lc.web.serving import address_of, listening
from tests.fixtures.proxy import Proxy
from tests.fixtures.scripted_model import ScriptedModel
from tests.fixtures.servers import DEADLINE_SECONDS, free_port, need, running_server, wait_until

expect.set_options(timeout=15_000)

HELD = "⏸"
HOSTILE = (
    "<script>window.hacked='script'</script> <img src=x onerror=\"window.hacked='img'\"> "
    "[click](javascript:window.hacked='link') <svg onload=\"window.hacked='svg'\">"
    '<a href="javascript:0">x</a></svg> '
    "&lt;script&gt;window.hacked='entity'&lt;/script&gt; </div></template><iframe srcdoc=\"<script>parent.hacked=1"
    '</script>"></iframe> **<b onclick=x>bold</b>** `<style>*{display:none}</style>` '
    "![x](https://example.org/track.png) {{7*7}} ${7*7} '\"><body onload=window.hacked='body'>"
)
ANSWER = (
    "The second phase of the regional market opened on **1 March 2026**.\n\n"
    "- Settlement rules are agreed\n- Guarantees are not"
)


class PausingModel(ScriptedModel):
    """Stops at each :data:`HELD` until it is let go."""

    _go: Any = PrivateAttr(default_factory=threading.Event)

    def hold(self) -> None:
        self._go.clear()

    def go_on(self) -> None:
        self._go.set()

    def repair(self) -> None:
        """Answer questions that broke it before."""
        _repaired.set()

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            if HELD in chunk.text:
                while not self._go.is_set():  # noqa: ASYNC110 - set by another thread
                    await asyncio.sleep(0.01)
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=chunk.text.replace(HELD, "")))  # noqa: PLW2901
            yield chunk


def answer_of(messages: list[BaseMessage]) -> Any:
    question = messages[-1].text
    if "breaks" in question and not _repaired.is_set():
        return ConnectionError("the model is gone")
    if "hostile" in question:
        return HOSTILE
    if "slowly" in question:
        return f"This is the first half. {HELD} This is the second half, at the end."
    if "which version" in question:
        return f"This answer is number {next(_number)}."
    return ANSWER


_number = iter(range(1, 10_000))
_repaired = threading.Event()


@dataclass
class Desk:
    """A service, and how to sign in there."""

    app: FastAPI
    address: str
    url: str
    prefix: str
    model: PausingModel
    keys: dict[str, str] = field(default_factory=dict)

    def key(self, name: str, *roles: str, organisation: str = "", groups: Any = None) -> str:
        """An API key of a user."""
        server = Server.from_url(self.url)
        try:
            owner = checked_principal(name, roles, self.prefix + organisation, groups)
            return server.run(add_key_op(Keys(self.prefix), owner))
        finally:
            server.close()

    def api(self, key: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=DEADLINE_SECONDS)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A service on a separate server, whose group `protocol` is held for review."""
    with running_server("redis") as running:
        model = PausingModel(script=answer_of)
        model.go_on()
        settings = load_settings(
            redis_url=running.url,
            prefix="page",
            router="lexical",
            web_requests_per_minute=100_000,
            web_questions_per_minute=100_000,
        )
        app = create_app(
            settings,
            model=model,
            router="lexical",
            held=("protocol",),
            model_name="scripted",
            lease_seconds=1.0,
            drain_seconds=1.0,
            checks=lambda: [
                {"area": "redis", "what": "version", "state": "ok", "text": "Redis 7.0.15", "fix": ""},
                {"area": "redis", "what": "memory", "state": "warning", "text": HOSTILE, "fix": "Set maxmemory."},
            ],
        )
        app.state.web.sign_ins = Rate(100_000)
        listener = listening("127.0.0.1", free_port())
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on", ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, "the service answers")
            yield Desk(app, address_of(listener), running.url, "page", model)
        finally:
            model.go_on()
            server.should_exit = True
            thread.join(DEADLINE_SECONDS)
            listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def admin(desk: Desk) -> str:
    """An administrator's key, in an organisation with a bit of everything to look at."""
    key = desk.key("amina.diallo", "admin")
    with desk.api(key) as api:
        for session, question in (
            ("market", "Where does the regional power market stand, and what holds it back?"),
            ("market", "And what do farmers and investors need: credit for seeds, guarantees for solar?"),
            ("ministers", "@protocol"),
        ):
            groups = ["protocol"] if question == "@protocol" else []
            text = "Draft the invitation to the ministers of energy." if groups else question
            answer = api.post("/api/chat", json={"question": text, "session": session, "groups": groups})
            assert answer.status_code == 200, answer.text
    return key


@pytest.fixture(scope="session")
def reader_of_documents(desk: Desk) -> str:
    """A key in an organisation whose answers rest on a document, with a hostile title."""
    key = desk.key("kofi", "admin", organisation="-docs")
    text = (
        "# Status of the regional power market\n\n"
        "The second phase of the regional power market opened on 1 March 2026.\n\n"
        f"Remarks of a visitor: {HOSTILE}\n"
    )
    with desk.api(key) as api:
        answer = api.post(
            "/api/documents",
            files={"file": ("market <script>window.hacked=1</script>.md", text.encode())},
            data={"title": "Market note <img src=x onerror=window.hacked='title'>"},
        )
        assert answer.status_code == 201, answer.text
    return key


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        need("chromium (Debian package chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@dataclass
class Looking:
    """A user's browser, which records everything that went wrong in it."""

    context: BrowserContext
    address: str
    page: Page
    problems: list[str]

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.address}{path}")
        return self.page

    def sign_in(self, key: str, back: str = "/") -> Page:
        page = self.open(back)
        page.get_by_role("textbox").fill(key)
        page.locator("form:not(.langs) button").click()
        expect(page.locator("#main")).to_be_attached()
        page.wait_for_load_state()  # its scripts have run
        return page

    def mark(self) -> None:
        """Mark the page: the mark is gone once the page is loaded again."""
        self.page.evaluate("window.isMarked = true")

    def is_marked(self) -> bool:
        return bool(self.page.evaluate("window.isMarked === true"))

    def ask(self, question: str) -> None:
        self.page.locator("#question").fill(question)
        self.page.keyboard.press("Enter")

    def another(self) -> Page:
        page = self.context.new_page()
        _watch(page, self.problems)
        return page


def _watch(page: Page, problems: list[str]) -> None:
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def said(message: Any) -> None:
        # a refused or broken request is visible: tests that provoke one check what the page shows
        if message.type == "error" and "Failed to load resource" not in message.text:
            problems.append(f"console: {message.text}")

    page.on("console", said)


@pytest.fixture
def looking(desk: Desk, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Looking]:
    """A user's browser, in which nothing may go wrong. Its parameters are options of a context."""
    options = {"locale": "en-GB", "viewport": {"width": 1280, "height": 860}, **getattr(request, "param", {})}
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    page = context.new_page()
    problems: list[str] = []
    _watch(page, problems)
    yield Looking(context, desk.address, page, problems)
    context.close()
    assert problems == []


@pytest.fixture
def proxied(desk: Desk) -> Iterator[Proxy]:
    """A network between the browser and the service that breaks on demand."""
    proxy = Proxy(int(desk.address.rpartition(":")[2]))
    yield proxy
    proxy.close()
