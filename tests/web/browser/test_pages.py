"""Every page, in every language, at both widths, light and dark, is complete, legible and usable."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from ecowas_lc.web.texts import texts_of
from tests.web.browser.conftest import Looking

PAGES = (
    "/",
    "/chat?session=market",
    "/chat?session=ministers",
    "/sessions",
    "/sessions?search=nothing+like+it",
    "/thread?session=market",
    "/approvals",
    "/documents",
    "/documents?search=market",
    "/analytics",
    "/system",
    "/audit",
    "/nowhere",
)
TITLES = {
    "/sessions": "sessions.title",
    "/approvals": "approvals.title",
    "/documents": "documents.title",
    "/analytics": "analytics.title",
    "/system": "system.title",
    "/audit": "audit.title",
    "/nowhere": "error.not_found",
}
ALIKE = {"/chat?session=ministers", "/sessions?search=nothing+like+it", "/documents?search=market", "/nowhere"}
"""Pages that differ from others in a line or two: axe looks at them in English."""

# every language at both widths; axe sees each language, width and scheme, and not all of their combinations
LOOKS = [
    ("en", 1280, "light", True),
    ("en", 390, "light", False),  # the next test has axe look at it
    ("fr", 1280, "dark", True),
    ("fr", 390, "light", False),
    ("pt", 1280, "light", False),
    ("pt", 390, "dark", True),
]


def violations(page: Page) -> list[str]:
    """axe's findings against WCAG 2.2 AA and good practice, with the element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in found for node in each["nodes"]
    ]


OUTSIDE = """() => [...document.querySelectorAll("main *, header *, dialog *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && !one.closest(".sr, .scroll, svg, .skip, pre") && box.right > innerWidth + 1;
}).map((one) => one.outerHTML.slice(0, 120))"""


def problems_of(page: Page, width: int, language: str, *, axe: bool = True) -> list[str]:
    """The faults of a page, each with its address."""
    found = violations(page) if axe else []
    if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
        found.append(f"{wide} px wide")
    found += [f"cut off at the right: {each}" for each in page.evaluate(OUTSIDE)]
    if page.locator("h1").count() != 1:
        found.append("not one h1")
    if (lang := page.evaluate("document.documentElement.lang")) != language:
        found.append(f"in {lang}")
    return [f"{page.url}: {each}" for each in found]


def options(language: str, width: int, scheme: str) -> dict:
    height = 844 if width < 500 else 860
    return {"locale": language, "viewport": {"width": width, "height": height}, "color_scheme": scheme}


@pytest.mark.parametrize(
    ("looking", "language", "width", "axe"),
    [
        pytest.param(options(*look, scheme), *look, axe, id="-".join(map(str, (*look, scheme))))
        for *look, scheme, axe in LOOKS
    ],
    indirect=["looking"],
)
def test_every_page_is_accessible_fits_and_speaks_the_browsers_language(
    looking: Looking, admin: str, language: str, width: int, axe: bool
) -> None:
    """No page violates WCAG 2.2 AA, is wider than its window, or is in another language than requested."""
    looking.open("/sign-in")
    found = problems_of(looking.page, width, language, axe=axe)
    looking.sign_in(admin)
    for path in PAGES:
        looking.open(path)
        again = language != "en" and path in ALIKE
        found += problems_of(looking.page, width, language, axe=axe and not again)
        if path in TITLES:
            expect(looking.page.locator("h1")).to_have_text(texts_of(language)(TITLES[path]))
    assert found == []


@pytest.mark.parametrize(
    ("looking", "width"),
    [
        pytest.param(options("en", 390, "light"), 390, id="390"),
        pytest.param(options("en", 1280, "dark"), 1280, id="1280"),
    ],
    indirect=["looking"],
)
def test_what_opens_on_a_page_is_accessible_too(looking: Looking, admin: str, width: int) -> None:
    """Menus, forms and details that a reader opens are as accessible and as narrow as the page."""
    found: list[str] = []
    looking.sign_in(admin)
    page = looking.open("/chat?session=market")
    for summary in page.locator("details.why > summary").all():
        summary.click()
    expect(page.locator(".told .route").first).to_be_visible()
    page.locator("[data-edit]").first.click()
    page.locator("#question").fill("@")
    expect(page.locator("#mentions li").first).to_be_visible()
    found += problems_of(page, width, "en")
    page = looking.open("/approvals")
    page.get_by_role("button", name="Edit").click()
    found += problems_of(page, width, "en")
    page.get_by_role("button", name="Reject").first.click()
    found += problems_of(page, width, "en")
    page = looking.open("/sessions")
    page.locator('input[name="session"]').first.check()
    expect(page.locator("[data-bulk]")).to_be_visible()
    found += problems_of(page, width, "en")
    page.get_by_role("button", name="Clear").click()
    found += problems_of(page, width, "en")
    if width == 390:
        page.get_by_role("button", name="Menu").click()
        expect(page.get_by_role("link", name="Analytics")).to_be_visible()
        found += problems_of(page, width, "en")
    assert found == []


def test_a_reader_can_choose_another_language(looking: Looking, admin: str) -> None:
    """The switch changes the language at once and permanently, and the reader stays on the page."""
    looking.sign_in(admin)
    page = looking.open("/sessions?active=1d")
    page.get_by_role("button", name="Français").click()
    expect(page.locator("html")).to_have_attribute("lang", "fr")
    assert page.url.endswith("/sessions?active=1d")
    expect(page.locator("#active")).to_have_value("1d")
    looking.open("/audit")
    expect(page.locator("h1")).to_have_text("Journal d’audit")
