"""The page's texts: complete, consistent and correctly set in three languages."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

import ecowas_lc.cli
import ecowas_lc.web
from ecowas_lc.drawing import draw_thread
from ecowas_lc.web.charts import rails
from ecowas_lc.web.rendering import _environment
from ecowas_lc.web.texts import LANGUAGES, texts_of, wanted_language
from ecowas_lc.web.views import difference_html

FOLDER = Path(ecowas_lc.web.__file__).parent
GAP = re.compile(r"\{(\w+)\}")


def forms(language: str, name: str) -> list[str]:
    found = texts_of(language).raw(name)
    return [found] if isinstance(found, str) else list(found.values())


def test_every_language_has_every_text() -> None:
    """No language lacks a text, and each text has the same placeholders in all of them."""
    names = {language: set(texts_of(language).names()) for language in LANGUAGES}
    assert names["en"] == names["fr"] == names["pt"]
    for name in sorted(names["en"]):
        gaps = {
            language: {gap for form in forms(language, name) for gap in GAP.findall(form)}
            for language in LANGUAGES
        }
        assert gaps["en"] == gaps["fr"] == gaps["pt"], name
        kinds = {type(texts_of(language).raw(name)) for language in LANGUAGES}
        assert len(kinds) == 1, name


def test_templates_use_texts_that_there_are_and_no_text_is_left_over() -> None:
    """Each text that a template or a page names exists, and each existing text is used."""
    sources = [*FOLDER.glob("templates/*.html"), *FOLDER.glob("*.py"), *FOLDER.glob("static/*.js")]
    everything = "\n".join(path.read_text("utf-8") for path in sources)
    known = set(texts_of("en").names())
    named = set(re.findall(r"""\bt(?:exts)?\(\s*["']([a-z_]+\.[a-z_]+)["'],?""", everything))
    assert named - known == set()
    put_together = {"group", "router", "node", "role", "time", "languages", "language"}
    beginnings = set(re.findall(r"""f["']([a-z]+\.[a-z_]*)\{""", everything))
    unused = {
        name
        for name in known - named
        if name.split(".")[0] not in put_together
        and not name.startswith(tuple(beginnings))
        and not re.search(rf"""["'. ]{name.split(".")[-1]}["'.]""", everything)
    }
    assert unused == set()


def test_every_check_of_doctor_has_a_name_in_every_language() -> None:
    """The system page names each check and its area in the reader's language."""
    folder = Path(ecowas_lc.cli.__file__).parent
    sources = "\n".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    named = re.findall(r"""\b(?:ok|note|warning|broken)\(\s*(?:AREA|"\w+"),\s*"([\w ]+)",""", sources)
    assert len(named) > 20
    assert {f"check.{name.replace(' ', '_')}" for name in named} - set(texts_of("en").names()) == set()
    areas = {"settings", "redis", "model", "extras"}
    assert {f"area.{area}" for area in areas} <= set(texts_of("en").names())


def test_french_sets_spaces_that_do_not_break() -> None:
    """A French line never begins with a punctuation mark that belongs to the word before."""
    for name in texts_of("fr").names():
        for form in forms("fr", name):
            assert not re.search(r" [?!:;»]|« ", form), (name, form)


@pytest.mark.parametrize(
    ("accepted", "chosen", "language"),
    [
        ("", None, "en"),
        ("fr", None, "fr"),
        ("pt-BR,pt;q=0.9,en;q=0.8", None, "pt"),
        ("en;q=0.5,fr;q=0.7", None, "fr"),
        ("ha,yo;q=0.9", None, "en"),
        ("ha,pt;q=0.2", None, "pt"),
        ("fr;q=0,en", None, "en"),
        ("fr;q=zero,;;;,pt", None, "pt"),
        ("FR-CI", None, "fr"),
        ("fr", "pt", "pt"),
        ("fr", "xx", "fr"),
        ("fr;q=0", None, "en"),
    ],
)
def test_the_browsers_language_is_answered_in(accepted: str, chosen: str | None, language: str) -> None:
    """The reader's choice comes first, then the browser's preference, then English."""
    assert wanted_language(accepted, chosen) == language


@pytest.mark.parametrize(
    ("language", "n", "text"),
    [
        ("en", 0, "0 sessions"),
        ("en", 1, "1 session"),
        ("fr", 0, "0 session"),
        ("fr", 1, "1 session"),
        ("fr", 2, "2 sessions"),
        ("fr", 12345, "12\u202f345 sessions"),
        ("pt", 0, "0 sessões"),
        ("en", 12345, "12,345 sessions"),
    ],
)
def test_numbers_choose_the_form_and_are_written_as_the_language_does(language: str, n: int, text: str) -> None:
    """French uses the singular for zero; each language has its own thousands separator."""
    assert texts_of(language)("sessions.found", n=n) == text


@pytest.mark.parametrize(
    ("seconds", "english", "french"),
    [
        (-5, "just now", "à l’instant"),
        (30, "30 seconds ago", "il y a 30 secondes"),
        (60, "1 minute ago", "il y a 1 minute"),
        (7300, "2 hours ago", "il y a 2 heures"),
        (86400 * 40, "40 days ago", "il y a 40 jours"),
    ],
)
def test_moments_are_told_as_time_that_has_passed(seconds: float, english: str, french: str) -> None:
    """If a clock is slightly behind the server's, no time is shown as in the future."""
    now = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
    for language, text in (("en", english), ("fr", french)):
        found = texts_of(language).moment(now - timedelta(seconds=seconds), now)
        assert found is not None
        assert found.ago == text
        assert found.exact.endswith("UTC")


def test_no_template_marks_anything_as_safe_or_holds_inline_code() -> None:
    """Every value is escaped, and the strict content security policy blocks nothing of ours."""
    for path in sorted(FOLDER.glob("templates/*.html")):
        text = path.read_text("utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape false", text), path.name
        assert not re.search(r"""\sstyle=|\son[a-z]+=|<style|javascript:""", text), path.name
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path.name
    assert _environment().autoescape is True


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Pages work without a network: their files contain no address of another host."""
    for path in [*FOLDER.glob("templates/*.html"), *FOLDER.glob("static/*.css"), *FOLDER.glob("static/*.js")]:
        assert not re.search(r"https?://|[\"'(]//", path.read_text("utf-8")), path.name


def test_how_long_something_is_kept() -> None:
    """A duration is in its largest whole unit; what has no end says so."""
    texts = texts_of("en")
    assert texts.lasts(None) == texts("common.never")
    assert texts.lasts(0.4) == texts("time.lasts_seconds", n=0)
    assert texts.lasts(7_300) == texts("time.lasts_hours", n=2)
    assert texts.moment(None) is None


def test_long_texts_are_compared_as_a_whole() -> None:
    """Comparing two very long texts word by word would occupy the service: they are shown one after the other."""
    old, new = "a " * 4_000, "<b> " * 4_000
    assert difference_html(old, new) == f"<del>{old}</del><ins>{'&lt;b&gt; ' * 4_000}</ins>"
    assert difference_html("a b", "a c") == "a <del>b</del><ins>c</ins>"


def test_a_timeline_shows_forks_and_where_it_was_cut() -> None:
    """Each part of a timeline has its lines: forks leave their lane, and dots lead to what is not drawn."""
    saver = InMemorySaver()
    graph = StateGraph(MessagesState).add_node("say", lambda _: {"messages": [("ai", "Yes.")]})
    on = graph.add_edge(START, "say").compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    for question in ("one?", "two?"):
        on.invoke({"messages": [("user", question)]}, config)
    early = list(on.get_state_history(config))[-2].config
    on.invoke({"messages": [("user", "other?")]}, early)
    whole = draw_thread(saver, "t")
    drawn = [str(rails(moment, whole.moments, whole.lanes)) for moment in whole.moments]
    assert sum("<path" in part for part in drawn) == 1
    assert sum(" now" in part for part in drawn) == 1
    waits = dataclasses.replace(whole.moments[-1], waiting=("May I?",))
    assert 'class="waits"' in str(rails(waits, whole.moments, whole.lanes))
    cut = draw_thread(saver, "t", limit=2)
    assert any("stroke-dasharray" in str(rails(moment, cut.moments, cut.lanes)) for moment in cut.moments)
