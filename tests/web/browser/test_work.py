"""The work of staff, reviewers and operators: approvals, timelines, sessions and figures."""

from __future__ import annotations

import csv
import io
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.web.browser.conftest import Desk, Looking

DRAFTED = "The second phase of the regional market opened on **1 March 2026**."


def draft(desk: Desk, key: str, session: str) -> None:
    with desk.api(key) as api:
        body = {"question": f"Draft a letter for {session}.", "session": session, "groups": ["protocol"]}
        answer = api.post("/api/chat", json=body)
        assert answer.json()["status"] == "waiting", answer.text


def card(page: Page, session: str):
    return page.locator(".draft", has_text=f"Draft a letter for {session}.")


@pytest.mark.parametrize("action", ["approve", "edit", "reject"])
def test_a_draft_is_decided_on(desk: Desk, looking: Looking, admin: str, action: str) -> None:
    """Only reviewers see what waits; a decision releases the draft, another text, or a reason."""
    session = f"letter-{action}"
    draft(desk, admin, session)
    looking.sign_in(admin)
    page = looking.open(f"/chat?session={session}")
    expect(page.locator(".turn")).to_contain_text("is waiting for a reviewer")
    expect(page.locator(".turn")).not_to_contain_text("1 March 2026")
    looking.open(f"/sessions?search={session}")
    expect(page.locator("tbody tr")).to_contain_text("1 answer waiting")
    page = looking.open("/approvals")
    mine = card(page, session)
    expect(mine).to_contain_text("1 March 2026")
    if action == "approve":
        mine.get_by_role("button", name="Approve").click()
        said = "1 March 2026"
    elif action == "edit":
        mine.get_by_role("button", name="Edit", exact=True).click()
        field = mine.get_by_label("Edited answer")
        expect(field).to_be_focused()
        field.fill(field.input_value().replace("1 March", "15 April"))
        expect(mine.locator(".diff del")).to_have_text(["**1", "March"])
        expect(mine.locator(".diff ins")).to_have_text(["**15", "April"])
        mine.get_by_role("button", name="Release the edited answer").click()
        said = "15 April 2026"
    else:
        mine.get_by_role("button", name="Reject", exact=True).click()
        mine.get_by_label("Reason").fill("The minister has left office.")
        mine.get_by_role("button", name="Reject the answer").click()
        said = "The minister has left office."
    expect(page.get_by_role("status").first).to_contain_text("eleased" if action != "reject" else "Rejected")
    expect(mine).to_have_count(0)
    looking.open(f"/chat?session={session}")
    expect(page.locator(".answer")).to_contain_text(said)
    looking.open("/audit")
    expect(page.locator("tbody tr", has_text=session).first).to_contain_text("amina.diallo")


def test_a_draft_that_was_decided_on_meanwhile_is_not_decided_on_twice(
    desk: Desk, looking: Looking, admin: str
) -> None:
    """Of two reviewers with the same page, the second learns that nothing waits any more."""
    draft(desk, admin, "letter-twice")
    looking.sign_in(admin)
    page = looking.open("/approvals")
    other = looking.another()
    other.goto(page.url)
    card(page, "letter-twice").get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status").first).to_contain_text("Released")
    card(other, "letter-twice").get_by_role("button", name="Approve").click()
    expect(other.get_by_role("alert")).to_contain_text("no longer waiting")


def test_a_thread_is_forked_from_an_earlier_step(looking: Looking, desk: Desk, admin: str) -> None:
    """A step shows its state and its changes; a question asked from there leaves the rest unchanged."""
    with desk.api(admin) as api:
        for question in ("Which power lines are late?", "And what do the power lines cost?"):
            assert api.post("/api/chat", json={"question": question, "session": "forked"}).status_code == 200
    looking.sign_in(admin)
    page = looking.open("/thread?session=forked")
    steps = page.locator("a.step")
    count = steps.count()
    expect(page.locator(".rails").first).to_be_visible()
    first = steps.filter(has_text="Answer recorded").last
    [step] = parse_qs(urlsplit(first.get_attribute("href") or "").query)["step"]
    first.click()
    expect(page.locator('#detail input[name="step"]')).to_have_value(step)  # another one had this title
    expect(page.locator("#detail h2").first).to_have_text("Answer recorded")
    expect(first).to_have_attribute("aria-current", "true")
    page.locator("#detail summary", has_text="Groups asked").first.click()
    expect(page.locator("#detail")).to_contain_text("lexical")
    page.get_by_label("Question to ask from here").fill("Who pays for the power lines?")
    with page.expect_request("**/thread/fork"):
        page.get_by_role("button", name="Continue from here").click()
    expect(page.locator(".said[data-answer]")).to_have_count(2)
    expect(page.locator(".bubble")).to_have_text(["Which power lines are late?", "Who pays for the power lines?"])
    expect(page.locator(".branches")).to_contain_text("Version 2 of 2")
    looking.open("/thread?session=forked")
    assert page.locator("a.step").count() > count
    assert page.locator(".rails .lane-1").count() > 0


def test_sessions_are_searched_extended_and_cleared(desk: Desk, looking: Looking, admin: str) -> None:
    """Filters narrow the list as you type; clearing asks first, and deletes only what was selected."""
    with desk.api(admin) as api:
        for name in ("one", "two", "three"):
            body = {"question": f"Which power lines are {name}?", "session": f"bulk-{name}"}
            assert api.post("/api/chat", json=body).status_code == 200
    looking.sign_in(admin)
    page = looking.open("/sessions")
    looking.mark()
    page.locator("#search").press_sequentially("bulk-")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    assert "search=bulk-" in page.url
    page.locator("#group").select_option("agriculture")
    expect(page.locator(".empty")).to_be_visible()
    page.locator("#group").select_option("energy")
    expect(rows).to_have_count(3)
    assert looking.is_marked(), "a filter reloads the rows alone"
    rows.filter(has_text="bulk-one").get_by_role("checkbox").check()
    page.locator("#ttl").select_option(str(30 * 86400))
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_role("status").first).to_have_text("1 session extended.")
    expect(page.locator("tbody tr", has_text="bulk-one")).to_contain_text("29 days")
    looking.open("/sessions?search=bulk-")
    page.locator("[data-select-all]").check()
    rows.filter(has_text="bulk-two").get_by_role("checkbox").uncheck()
    expect(page.locator("[data-selected]")).to_have_text("2 selected")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Clear 2 sessions?")
    page.get_by_role("button", name="Yes, clear").click()
    expect(page.get_by_role("status").first).to_have_text("2 sessions cleared.")
    looking.open("/sessions?search=bulk-")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("bulk-two")


def test_figures_are_charts_tables_and_csv(desk: Desk, looking: Looking, admin: str) -> None:
    """Each chart has its numbers in a table for screen readers, and all of them are in the CSV."""
    looking.sign_in(admin)
    page = looking.open("/analytics")
    for name in ("day", "group", "language", "duration"):
        expect(page.locator(f"section[aria-labelledby=by-{name}] svg.chart")).to_be_visible()
    page.locator("summary").nth(1).click()
    expect(page.locator("section", has_text="Questions by group").locator("table")).to_contain_text("Energy")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    rows = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8")))
    [*_, today] = [row for row in rows if row["organisation"] == "page"]
    assert int(today["questions"]) >= 3
    assert int(today["group energy"]) >= 1
    looking.mark()
    page.locator("#to").fill("2020-01-31")
    page.locator("#from").fill("2020-01-01")
    page.locator("#from").dispatch_event("change")
    expect(page.locator(".empty")).to_contain_text("No questions in this period")
    assert looking.is_marked(), "a period reloads the charts alone"


def test_figures_are_kept_apart_by_organisation(desk: Desk, looking: Looking, admin: str) -> None:
    """The service's own operator may choose an organisation; an organisation's operator sees only that one."""
    theirs = desk.key("their operator", "operator", organisation="-theirs")
    with desk.api(desk.key("their staff", "staff", organisation="-theirs")) as api:
        assert api.post("/api/chat", json={"question": "Which power lines are late?"}).status_code == 200
    looking.sign_in(admin)
    page = looking.open("/analytics")
    page.locator("#organisation").select_option("page-theirs")
    expect(page.locator(".tile b").first).to_have_text("1")
    with desk.api(theirs) as api:
        for asked in ("", "?organisation=page"):
            rows = list(csv.DictReader(io.StringIO(api.get(f"/analytics.csv{asked}").text)))
            assert {row["organisation"] for row in rows} == {"page-theirs"}
            assert rows[-1]["questions"] == "1"


@pytest.mark.parametrize(
    ("role", "pages", "first"),
    [
        ("staff", ["Ask", "Sessions", "Documents"], "What do you want to know?"),
        ("reviewer", ["Approvals", "Documents"], "Approvals"),
        ("operator", ["Analytics", "Audit", "System"], "Analytics"),
    ],
)
def test_the_menu_offers_what_a_role_may_see(
    desk: Desk, looking: Looking, admin: str, role: str, pages: list[str], first: str
) -> None:
    """No menu offers a page that would be refused, and every user lands on a page they may use."""
    looking.sign_in(desk.key(f"a {role}", role))
    page = looking.page
    expect(page.get_by_role("heading", name=first)).to_be_visible()
    assert [each.strip().split("\n")[0] for each in page.locator(".nav a").all_inner_texts()] == pages
    looking.open("/sessions" if role != "staff" else "/system")
    expect(page.get_by_role("heading", level=1)).to_have_text("You may not open this page")
