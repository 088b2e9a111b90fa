"""Text of models, users and documents is shown as text, whatever it looks like: it runs and loads nothing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.web.browser.conftest import HOSTILE, Desk, Looking

IDS = (
    "\"><script>window.hacked='id'</script>",
    "' onmouseover='window.hacked=1' x='",
    "javascript:window.hacked=1",
    "../../etc/passwd?x=1#y&z=%00",
    "\u202eright to left {{7*7}}",
)
DANGEROUS = """() => {
  const tags = "script:not([src]), iframe, object, embed, img, base, style, link:not([href*='/static/'])";
  const followed = ["href", "src", "action", "formaction", "xlink:href"];
  const isBad = ({ name, value }) => name.startsWith("on") || name === "style" || name === "srcdoc" ||
    (followed.includes(name) && /^\\s*(javascript|data|vbscript):/i.test(value));
  const bad = [...document.querySelectorAll("*")].filter((one) => [...one.attributes].some(isBad));
  return [...document.querySelectorAll(tags), ...bad].map((one) => one.outerHTML.slice(0, 200));
}"""


def harmless(page: Page) -> None:
    __tracebackhide__ = True
    assert page.evaluate(DANGEROUS) == [], page.url
    assert page.evaluate("window.hacked") is None, page.url


@pytest.fixture(scope="module")
def attacked(desk: Desk) -> str:
    """An administrator's key in an organisation in which everything is hostile."""
    key = desk.key("mallory<b onclick=x>", "admin", organisation="-hostile")
    with desk.api(key) as api:
        for session in IDS:
            body = {"question": f"hostile power lines {HOSTILE}", "session": session}
            assert api.post("/api/chat", json=body).status_code == 200
        held = {"question": f"hostile {HOSTILE}", "session": "held", "groups": ["protocol"]}
        assert api.post("/api/chat", json=held).json()["status"] == "waiting"
    return key


def test_hostile_text_is_shown_and_never_run(looking: Looking, attacked: str) -> None:
    """Questions, answers, ids, names, drafts and findings are shown literally on every page."""
    requests: list[str] = []
    looking.page.on("request", lambda request: requests.append(request.url))
    page = looking.sign_in(attacked)
    harmless(page)
    looking.open("/sessions")
    answered = page.locator("tbody tr").filter(has_not_text="1 answer waiting")
    expect(answered).to_have_count(len(IDS))
    harmless(page)
    for place in range(len(IDS)):
        looking.open("/sessions")
        answered.nth(place).locator("th a").first.click()
        expect(page.locator(".said[data-answer]")).to_contain_text("<script>window.hacked='script'</script>")
        expect(page.locator(".bubble")).to_contain_text("<img src=x onerror=")
        harmless(page)
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator("#detail")).to_contain_text("<script>window.hacked='script'</script>")
    harmless(page)
    looking.open("/approvals")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Edited answer").fill(f"{HOSTILE} and more")
    expect(page.locator(".diff ins")).to_contain_text("more")
    harmless(page)
    for path in ("/audit", "/system", "/analytics", "/nowhere/<script>window.hacked=1</script>"):
        looking.open(path)
        harmless(page)
    assert [url for url in requests if not url.startswith(looking.address)] == []


def test_a_hostile_answer_does_no_harm_while_it_is_written(looking: Looking, attacked: str) -> None:
    """The live stream shows the same letters as the finished answer, and runs none of them."""
    page = looking.sign_in(attacked)
    looking.ask(f"hostile power lines {HOSTILE}")
    expect(page.locator(".said[data-answer]")).to_contain_text("<script>window.hacked='script'</script>")
    expect(page.locator(".said[data-answer]")).to_contain_text("[click](javascript:window.hacked='link')")
    expect(page.locator(".said[data-answer]")).to_contain_text("&lt;script&gt;")
    harmless(page)
    page.locator("summary", has_text="Why").click()
    expect(page.locator(".told")).to_contain_text("hacked")
    harmless(page)


def test_ids_that_look_like_something_else_stay_ids(looking: Looking, attacked: str) -> None:
    """Clearing a session with a hostile id clears that one."""
    page = looking.sign_in(attacked)
    looking.open("/sessions?search=onmouseover")
    page.locator('input[name="session"]').first.check()
    page.get_by_role("button", name="Clear").click()
    harmless(page)
    expect(page.locator("main .id")).to_have_text(IDS[1])
    page.get_by_role("button", name="Yes, clear").click()
    expect(page.get_by_role("status").first).to_have_text("1 session cleared.")
    looking.open("/sessions?search=onmouseover'")
    expect(page.locator(".empty")).to_be_visible()
