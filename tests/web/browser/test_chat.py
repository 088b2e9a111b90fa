"""A conversation in a real browser: interrupted streams, parallel tabs, branches, and no mouse."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from playwright.sync_api import Locator, Page, expect

from tests.fixtures.proxy import Proxy
from tests.web.browser.conftest import Desk, Looking

FIRST, SECOND = "This is the first half.", "This is the second half, at the end."
WHOLE = f"{FIRST} {SECOND}"


def answers(page: Page) -> Locator:
    return page.locator(".said[data-answer]")


def finished(page: Page) -> None:
    expect(answers(page).last).to_be_visible()
    expect(page.locator("[data-run], [data-live]")).to_have_count(0)


def test_nobody_gets_in_without_a_key(desk: Desk, looking: Looking, admin: str) -> None:
    """A page asks for a key first, says if a key is wrong, and then shows the requested page."""
    page = looking.page
    answer = page.goto(f"{desk.address}/sessions")
    assert answer is not None
    assert answer.status == 401
    page.get_by_label("Access key").fill("elc_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    looking.sign_in(admin, "/sessions")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_contain_text("signed out")
    looking.open("/sessions")
    expect(page.get_by_label("Access key")).to_be_visible()


def test_a_one_time_link_opens_the_first_page_once(desk: Desk, looking: Looking) -> None:
    """The printed link signs in the first person who opens it, and no other."""
    link = f"/sign-in?token={desk.app.state.web.access.one_time_token()}"
    page = looking.open(link)
    expect(page.locator("#question")).to_be_visible()
    assert "token" not in page.url
    looking.context.clear_cookies()
    looking.open(link)
    expect(page.get_by_role("alert")).to_contain_text("already")


def test_signing_in_leads_to_pages_of_this_service_only(desk: Desk) -> None:
    """After signing in, a return address on another site is not followed."""
    key = desk.key("eve", "staff")
    with httpx.Client(base_url=desk.address) as client:
        for back in ("https://example.org/", "//example.org", "/\\example.org", "javascript:alert(1)", "\n/x"):
            answer = client.post("/sign-in", data={"key": key, "back": back})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_first_question_gives_the_conversation_its_name(looking: Looking, admin: str) -> None:
    """An answer shows who speaks and why, and the conversation gets a title, tools and a menu entry."""
    looking.sign_in(admin)
    page = looking.page
    expect(page.get_by_role("heading", name="What do you want to know?")).to_be_visible()
    looking.mark()
    looking.ask("Which power lines are late?")
    finished(page)
    expect(answers(page)).to_contain_text("opened on 1 March 2026")
    assert looking.is_marked(), "a question loads its answer alone"
    expect(page.locator(".said strong")).to_have_text("1 March 2026")
    expect(page.locator(".speaks")).to_contain_text("Energy & Infrastructure")
    expect(page.get_by_role("heading", level=1)).to_have_text("Which power lines are late?")
    expect(page.locator(".recent a").first).to_have_text("Which power lines are late?")
    expect(page.get_by_role("link", name="Timeline")).to_be_visible()
    page.locator("summary", has_text="Why this group").click()
    expect(page.locator(".told")).to_contain_text("the words of the question")
    expect(page.locator(".told mark").first).to_be_visible()
    page.reload()
    expect(answers(page)).to_contain_text("opened on 1 March 2026")


def test_a_stream_that_is_cut_goes_on_where_it_stopped(
    desk: Desk, looking: Looking, admin: str, proxied: Proxy
) -> None:
    """After a broken connection, the reader has the whole answer, and no word twice."""
    looking.address = f"http://127.0.0.1:{proxied.port}"
    desk.model.hold()
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Tell me slowly about power lines")
    live = page.locator(".said.live")
    expect(live).to_have_text(FIRST)
    expect(page.locator(".answer")).to_have_attribute("aria-busy", "true")
    proxied.refuse()
    expect(page.locator("[data-status]")).to_contain_text("connection was lost")
    desk.model.go_on()
    proxied.accept()
    finished(page)
    expect(answers(page)).to_have_text(WHOLE)
    assert page.locator("#talk").inner_text().count(FIRST) == 1


def test_two_tabs_show_the_same_run(desk: Desk, looking: Looking, admin: str) -> None:
    """A tab opened in the middle of an answer follows it too; a second question waits for its end."""
    desk.model.hold()
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Tell me slowly about power lines")
    expect(page.locator(".said.live")).to_have_text(FIRST)
    other = looking.another()
    other.goto(page.url)
    expect(other.locator(".said.live")).to_have_text(FIRST)
    expect(other.get_by_role("button", name="Stop")).to_be_visible()
    desk.model.go_on()
    for tab in (page, other):
        finished(tab)
        expect(answers(tab)).to_have_text([WHOLE])
    other.locator("#question").fill("Which power lines are late?")
    other.keyboard.press("Enter")
    expect(answers(other)).to_have_count(2)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(answers(page)).to_have_count(2)


def test_a_question_that_another_tab_was_quicker_with_is_not_lost(
    desk: Desk, looking: Looking, admin: str
) -> None:
    """A tab that does not know of a run gets an error, shows the run, and keeps the typed text."""
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Which power lines are late?")
    finished(page)
    other = looking.another()
    other.goto(page.url)
    finished(other)
    desk.model.hold()
    looking.ask("Tell me slowly about power lines")
    expect(page.locator(".said.live")).to_have_text(FIRST)
    other.locator("#question").fill("And what do they cost?")
    other.keyboard.press("Enter")
    expect(other.get_by_role("alert")).to_contain_text("still being written")
    expect(other.locator("#question")).to_have_value("And what do they cost?")
    expect(other.locator(".said.live")).to_have_text(FIRST)
    desk.model.go_on()
    finished(other)
    expect(answers(other)).to_have_count(2)


def test_stopping_keeps_what_was_written(desk: Desk, looking: Looking, admin: str) -> None:
    """The stop button ends the answer; its text so far stays, and is marked."""
    desk.model.hold()
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Tell me slowly about power lines")
    expect(page.locator(".said.live")).to_have_text(FIRST)
    page.get_by_role("button", name="Stop").click()
    finished(page)
    desk.model.go_on()
    expect(answers(page)).to_contain_text(FIRST)
    expect(page.locator(".turn")).to_contain_text("cut off")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_a_question_without_an_answer_says_so_and_can_be_asked_again(
    desk: Desk, looking: Looking, admin: str
) -> None:
    """When the model fails, the page says why, keeps the question, and asks it again at a click."""
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Which power line breaks?")
    expect(page.locator("#talk")).to_contain_text("No model server answers")
    page.reload()
    expect(page.locator(".turn")).to_contain_text("no answer")
    desk.model.repair()
    page.get_by_role("button", name="Try again").click()
    finished(page)
    expect(answers(page)).to_contain_text("opened on 1 March 2026")


def test_regenerating_and_editing_make_versions_to_go_back_to(looking: Looking, admin: str) -> None:
    """Each new answer is a version; arrows lead to the others, and nothing is lost."""
    looking.sign_in(admin)
    page = looking.page
    looking.ask("Tell me which version of the power line plan holds")
    finished(page)
    first = answers(page).inner_text()
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".branches")).to_contain_text("Version 2 of 2")
    second = answers(page).inner_text()
    assert second != first
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Change your question").fill("Tell me which version of the solar plan holds")
    page.get_by_role("button", name="Ask this").click()
    expect(page.locator(".branches")).to_contain_text("Version 3 of 3")
    expect(page.locator(".bubble")).to_have_text("Tell me which version of the solar plan holds")
    for number, text in ((2, second), (1, first)):
        page.get_by_role("button", name="Previous version").click()
        expect(page.locator(".branches")).to_contain_text(f"Version {number} of 3")
        expect(answers(page)).to_have_text(text)
    page.get_by_role("button", name="Next version").click()
    expect(page.locator(".branches")).to_contain_text("Version 2 of 3")
    expect(answers(page)).to_have_text(second)


def test_a_group_is_chosen_by_typing_at(looking: Looking, admin: str) -> None:
    """``@`` offers the groups, the keyboard selects one, and it answers whatever the question is about."""
    looking.sign_in(admin)
    page = looking.page
    field = page.locator("#question")
    field.press_sequentially("@dig")
    options = page.get_by_role("option")
    expect(options).to_have_count(1)
    expect(field).to_have_attribute("aria-activedescendant", re.compile("mention"))
    page.keyboard.press("Enter")
    expect(field).to_have_value("@digital ")
    page.keyboard.type("Which power lines are late?")
    page.keyboard.press("Enter")
    finished(page)
    expect(page.locator(".speaks")).to_contain_text("Digital Economy & Transformation")
    page.locator("summary", has_text="Why").click()
    expect(page.locator(".told")).to_contain_text("You named the group.")


def test_everything_works_by_keyboard(looking: Looking, admin: str) -> None:
    """You can ask a question, open its route, edit its text and change the page without a mouse."""
    looking.sign_in(admin)
    page = looking.page

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            text = page.evaluate("document.activeElement.textContent + document.activeElement.ariaLabel")
            if name in text and page.evaluate("document.activeElement !== document.body"):
                return
        pytest.fail(f"no way to {name} by keyboard")

    looking.open("/sessions")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    looking.open("/")
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("Which power lines")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("are late?")
    page.keyboard.press("Enter")
    finished(page)
    expect(page.locator("#question")).to_be_focused()
    expect(page.locator("#live")).to_have_text("The answer is complete.")
    page.evaluate("document.querySelector('#talk').focus()")
    tab_to("Edit")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Change your question")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
    expect(page.get_by_label("Change your question")).to_be_hidden()
    tab_to("Why this group")
    page.keyboard.press("Enter")
    expect(page.locator(".told")).to_contain_text("the words of the question")
    page.evaluate("document.activeElement.blur(); document.querySelector('.skip').focus()")
    tab_to("Sessions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sessions")


def test_an_answer_is_copied_and_a_conversation_exported(looking: Looking, admin: str) -> None:
    """The copied and the exported text is the model's own Markdown."""
    looking.context.grant_permissions(["clipboard-read", "clipboard-write"])
    looking.sign_in(admin)
    page = looking.open("/chat?session=market")
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "**1 March 2026**" in page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == "market.md"
    text = download.value.path().read_text("utf-8")
    assert "## Where does the regional power market stand, and what holds it back?" in text
    assert "**1 March 2026**" in text


def test_a_citation_opens_the_passage(looking: Looking, reader_of_documents: str) -> None:
    """A mark in a grounded answer opens the passage it rests on, with the document to read on."""
    looking.sign_in(reader_of_documents)
    page = looking.page
    looking.ask("When did the second phase of the regional power market open?")
    finished(page)
    page.locator(".said .cite").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("mark")).to_contain_text("opened on 1 March 2026")
    expect(dialog).to_contain_text("Remarks of a visitor")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator(".source").first.click()
    dialog.get_by_role("link", name="Read the document").click()
    expect(page.locator(".text-of")).to_contain_text("Remarks of a visitor")
    assert page.evaluate("window.hacked") is None


def test_a_long_conversation_is_shown_in_pieces(desk: Desk, looking: Looking, admin: str) -> None:
    """Of 500 turns a page contains only the newest, so it stays small; a button loads earlier ones."""
    key = desk.key("long", "admin", organisation="-long")

    graph = desk.app.state.web.service_of("page-long").organisation._graph(with_documents=False)
    messages = [
        message
        for number in range(500)
        for message in (HumanMessage(f"Question {number}", id=f"q{number}"), AIMessage(f"Answer {number}"))
    ]
    config = {"configurable": {"thread_id": "long"}}
    with ThreadPoolExecutor(1) as pool:  # Playwright's event loop runs in this one
        pool.submit(graph.update_state, config, {"messages": messages}, as_node="record").result()
    looking.sign_in(key)
    page = looking.open("/chat?session=long")
    expect(page.locator(".turn")).to_have_count(20)
    expect(page.locator(".turn").last).to_contain_text("Answer 499")
    expect(page.locator(".turn").last).to_be_in_viewport()
    assert len(page.content()) < 200_000
    page.get_by_role("link", name="Show earlier questions").click()
    expect(page.locator(".turn")).to_have_count(40)
    expect(page.locator(".turn").first).to_contain_text("Question 460")
