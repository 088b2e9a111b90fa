"""Answers as HTML: the part of Markdown that helps reading, and nothing harmful."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ecowas_lc.web.views import MOST_CHARACTERS, answer_html, difference_html

ALLOWED = {"p", "ul", "ol", "li", "h3", "blockquote", "pre", "code", "strong", "em", "del", "ins"}


class Reading(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.depth: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("One\ntwo\n\nthree", "<p>One\ntwo</p>\n<p>three</p>"),
        ("# Title\ntext", "<h3>Title</h3>\n<p>text</p>"),
        ("- a\n- **b**", "<ul><li>a</li><li><strong>b</strong></li></ul>"),
        ("1. a\n2) *b*", "<ol><li>a</li><li><em>b</em></li></ol>"),
        ("> said", "<blockquote><p>said</p></blockquote>"),
        ("```\n<b>\n```", "<pre>&lt;b&gt;</pre>"),
        ("`<b>`", "<p><code>&lt;b&gt;</code></p>"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
        ("a_b_c and **", "<p>a_b_c and **</p>"),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("&lt;b&gt;", "<p>&amp;lt;b&amp;gt;</p>"),
        ("", ""),
    ],
)
def test_marks_become_elements_and_tags_stay_text(text: str, html: str) -> None:
    """Paragraphs, lists, headings, quotations and emphasis are shown; HTML and links are not created."""
    assert answer_html(text) == html


def test_a_very_long_answer_is_plain_text() -> None:
    """An answer of more characters than the limit is shown without its marks."""
    assert answer_html("**<b>** ".ljust(MOST_CHARACTERS)) != answer_html("**<b>** ".ljust(MOST_CHARACTERS + 1))
    assert answer_html("**<b>**".ljust(MOST_CHARACTERS + 1, "x")).startswith("<p>**&lt;b&gt;**xxx")


def test_only_numbers_that_are_cited_become_marks() -> None:
    """A number in brackets without a citation stays as the model wrote it."""

    def cite(number: int) -> Markup:
        return Markup("<button>{}</button>").format(number)

    assert answer_html("Yes [1], no [2].", cite, {1}) == "<p>Yes <button>1</button>, no [2].</p>"
    assert answer_html("Yes [1].") == "<p>Yes [1].</p>"


PIECES = st.sampled_from(
    [
        *(
            "<script>",
            "</p>",
            "<img src=x onerror=1>",
            "&",
            "&#60;",
            "**",
            "*",
            "`",
            "```",
            "\n",
            "\n\n",
            "- ",
            "1. ",
        ),
        *("# ", "> ", "[1]", "[x](y)", "a", " ", "'", '"', "\u202e", "\x00", "{{", "é"),
    ]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=40).map("".join))
def test_no_text_becomes_an_element_of_its_own(text: str) -> None:
    """Whatever a model writes, the output has only our elements, closed in order and without attributes."""
    read = Reading(str(answer_html(text)))
    assert set(read.tags) <= ALLOWED
    assert read.attributes == []
    assert read.depth == []
    kept = re.sub(r"[^\w<>&'\"]", "", read.text)
    assert all(sign in text for sign in kept)


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_difference_holds_both_texts(before: str, after: str) -> None:
    """A reviewer sees a change exactly, with nothing left out or added."""
    html = str(difference_html(before, after))
    read = Reading(html)
    assert set(read.tags) <= {"del", "ins"}
    assert Reading(re.sub(r"<ins>.*?</ins>", "", html, flags=re.S)).text.replace("\r", "\n") == before.replace(
        "\r", "\n"
    )
    assert Reading(re.sub(r"<del>.*?</del>", "", html, flags=re.S)).text.replace("\r", "\n") == after.replace(
        "\r", "\n"
    )
