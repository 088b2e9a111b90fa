"""Answers as Markdown and HTML: every mark leads to its source, and no text becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from ecowas_lc.documents.answer_formats import answer_as_html, answer_as_markdown, citations_in
from ecowas_lc.documents.answers import Citation, message_of

_TAGS = {"div", "p", "br", "strong", "sup", "a", "section", "h4", "ol", "li", "blockquote"}
_ATTRIBUTES = {"class", "href", "id", "value", "rel"}


def _citation(number: int, start: int, end: int, **fields: object) -> Citation:
    made: Citation = {
        "number": number,
        "document": "d1",
        "file": "a.md",
        "title": "Note on the line",
        "page": None,
        "cited_text": "The line has 310 MW.",
        "source_start": 0,
        "source_end": 20,
        "start": start,
        "end": end,
    }
    return {**made, **fields}  # type: ignore[typeddict-item]


class _Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep each tag with its attributes."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep only the visible text."""
        self.text += data


def test_each_mark_of_html_links_to_its_source_and_each_source_to_its_place() -> None:
    """A mark is a link to its entry in the list, and an entry links to where its source can be opened."""
    message = message_of("It has 310 MW. [1]", [_citation(1, 0, 14, page=3)])

    made = answer_as_html(message, link=lambda one: f"/documents/{one['document']}#{one['page']}", id_prefix="a1")

    assert '<a href="#a1-1">[1]</a>' in made
    assert '<li id="a1-1" value="1"><a href="/documents/d1#3"' in made
    assert "Note on the line, page 3" in made
    assert "<blockquote>The line has 310 MW.</blockquote>" in made


def test_each_source_of_markdown_links_to_its_place() -> None:
    """Marks and sources of the Markdown form link to the same address."""
    message = message_of("**Energy**\n\nIt has 310 MW. [1]", [_citation(1, 12, 26)])

    made = answer_as_markdown(message, link=lambda one: f"https://docs.example/{one['document']}")

    assert "**Energy**" in made
    assert r"It has 310 MW.[\[1\]](<https://docs.example/d1>)" in made
    assert "1. [Note on the line](<https://docs.example/d1>): “The line has 310 MW.”" in made


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "JaVaScRiPt:x", "data:text/html,x", "\tjavascript:x", '"><b>']
)
def test_only_safe_addresses_become_links(address: str) -> None:
    """An address that would run something, or break out of its attribute, makes no link."""
    message = message_of("It has 310 MW. [1]", [_citation(1, 0, 14)])

    made = _Reader(answer_as_html(message, link=lambda _: address))

    assert [attributes["href"] for tag, attributes in made.tags if tag == "a"] == ["#source-1"]
    assert "](" not in answer_as_markdown(message, link=lambda _: address)


def test_an_answer_without_citations_has_no_list_of_sources() -> None:
    """An answer that rests on nothing shows nothing that looks like a source, not even a mark it wrote itself."""
    made = answer_as_html(AIMessage("See [1]."))

    assert made == '<div class="answer"><p>See [1].</p></div>'


def test_citations_are_those_of_the_message() -> None:
    """The annotations of a message are returned unchanged."""
    given_ones = [_citation(1, 0, 14, page=2), _citation(2, 19, 25)]

    assert citations_in(message_of("It has 310 MW. [1] Really [2]", given_ones)) == given_ones


_nasty = st.text(st.sampled_from(list("<>&\"'/=[]()*#-\\`1\n ab:")) | st.characters(codec="utf-8"), max_size=60)


@given(said=_nasty, cited=_nasty, title=_nasty)
def test_no_text_becomes_markup(said: str, cited: str, title: str) -> None:
    """Whatever an answer, a passage or a title holds, the HTML has this module's tags and attributes only."""
    text = f"{said} [1]"
    message = message_of(text, [_citation(1, 0, len(said), cited_text=cited, title=title)])

    made = _Reader(answer_as_html(message))

    assert {tag for tag, _ in made.tags} <= _TAGS
    assert {name for _, attributes in made.tags for name in attributes} <= _ATTRIBUTES
    assert "".join(cited.split()) in "".join(made.text.split())
