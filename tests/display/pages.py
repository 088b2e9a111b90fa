"""The HTML of a display: its contents, and its layout in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from tests.fixtures.servers import need

TAGS = frozenset(
    [
        "style",
        "div",
        "span",
        "p",
        "small",
        "strong",
        "em",
        "br",
        "code",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "mark",
        "blockquote",
        "ins",
        "del",
        "a",
        "pre",
    ]
)
"""What notebooks' and GitHub's sanitizers leave in."""
ATTRIBUTES = frozenset({"class", "style", "scope", "open", "title"})
MARKER = "marker7"
HOSTILE = (
    f"<script>{MARKER}()</script>",
    f"<img src=x onerror={MARKER}()>",
    f'"><svg/onload={MARKER}()>',
    f"'><iframe src=javascript:{MARKER}()>",
    f"</style><script>{MARKER}()</script>",
    f"]]><!--<script>{MARKER}()//-->",
    f"[x](javascript:{MARKER}()) **<b onclick={MARKER}()>** `<i>` *<u>*",
    f"&lt;script&gt;{MARKER}()&#60;/script&#62;",
    f"\u202e{MARKER}\x00\x1b[31m\ud800",
    f"<{MARKER} style=position:fixed;inset:0>",
)


@dataclass
class Parsed(HTMLParser):
    """A display's HTML as a browser reads it."""

    tags: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    styles: list[str] = field(default_factory=list)
    text: str = ""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.styles, self.text, self._in_style = set(), set(), [], "", False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.styles += [str(value) for name, value in attrs if name == "style"]
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.tags.add("!--")


_LINES = {*TAGS} - {"span", "small", "strong", "em", "code", "mark", "a"}


class Restricted(HTMLParser):
    """HTML by GitHub's rules: styles and scripts go with what is in them, and nothing is arranged or hidden.

    ``text`` is what is read before anything is opened.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self._gone, self._closed, self._in_title = "", 0, 0, 0
        self._details: list[bool] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._gone += tag in ("style", "script")
        if tag == "details":
            self._details.append("open" not in dict(attrs))
            self._closed += self._details[-1]
        self._in_title += tag == "summary" and self._closed <= 1
        self.text += "\n" if tag in _LINES else ""

    def handle_endtag(self, tag: str) -> None:
        self._gone -= tag in ("style", "script")
        if tag == "details":
            self._closed -= self._details.pop()
        self._in_title = 0 if tag == "summary" else self._in_title
        self.text += "\n" if tag in _LINES else ""

    def handle_data(self, data: str) -> None:
        if not self._gone and (not self._closed or self._in_title):
            self.text += data

    @property
    def words(self) -> set[str]:
        """The words that are read, without those of ids."""
        return words(self.text)


def words(text: str) -> set[str]:
    """Return the words of four letters and more; parts of ids are none."""
    return {*re.findall(r"(?<![\w…])[^\W\d_]{4,}(?![\w…])", text)}


MEASURE = """() => {
  const scope = document.querySelector('.ecowas-lc') || document.body;
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const colour = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = colour(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const wide = [], faint = [];
  const edge = document.documentElement.clientWidth;
  for (const element of scope.querySelectorAll('*')) {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    if (!box.width || style.display === 'none' || element.closest('.sep')) continue;
    if (box.right > edge + 1) wide.push(element.tagName + '.' + element.className + ' ' + box.right);
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (own && !element.closest('svg')) {
      const a = luminance(colour(style.color)), b = luminance(ground(element));
      const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
      if (ratio < 4.5) faint.push(element.textContent.slice(0, 40) + ' ' + ratio.toFixed(2));
    }
  }
  return {wide, faint, scroll: document.documentElement.scrollWidth - edge, ran: window.marker7ran || 0};
}"""


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        need("chromium (Debian package chromium)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
