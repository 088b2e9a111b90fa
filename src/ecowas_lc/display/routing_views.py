"""Views of routing decisions, groups, and the quality of routers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element

from ecowas_lc.display.blocks import (
    Hues,
    code,
    counted,
    cut,
    fold,
    heading,
    label,
    labels,
    note,
    part,
    prose,
    spoken,
    table,
)
from ecowas_lc.display.conversation_views import share_bar
from ecowas_lc.display.html_elements import Node, append, element

if TYPE_CHECKING:
    from ecowas_lc.supervisor.evaluation import Comparison, DialogueReport, RouterReport
    from ecowas_lc.supervisor.routing.decision import FoundWord, RouteDecision
    from ecowas_lc.twg import TWG

_MOST_MISTAKES = 30
_MOST_TERMS = 200
_SOURCES = {
    "lexical": "by its words",
    "semantic": "by words and meaning",
    "model": "by a model",
    "repaired": "by a model, on its second try",
    "asked": "as you named them",
}


def decision(shown: RouteDecision) -> list[Node]:
    """Return a view that explains a routing decision."""
    hues = Hues()
    names = list(dict.fromkeys([*shown.groups, *sorted(shown.scores, key=lambda one: -shown.scores[one])]))
    how = _SOURCES.get(shown.source, f"by {shown.source}")
    found: list[Node] = [
        heading("Route", labels(shown.groups, hues, "no group: the supervisor answers"), how),
    ]
    if shown.question:
        found.append(highlighted(shown.question, shown.words, hues))
    elif shown.words:
        line = element("p", "Words that count: ")
        for word in shown.words:
            append(
                line,
                _marked(word.text, spoken(word.group), hues(word.group)),
                " ",
            )
        found.append(line)
    if shown.scores:
        first, further = shown.thresholds or (None, None)
        strongest = max(shown.scores, key=lambda one: shown.scores[one])
        rows = []
        for name in names:
            score = shown.scores.get(name)
            is_asked = name in shown.groups
            least = first if name == strongest else further
            rows.append(
                (
                    [label(spoken(name), hues(name))],
                    [share_bar(score, least, hues(name) if is_asked else f"{hues(name)} quiet")]
                    if score is not None
                    else "",
                    f"{score:.2f}" if score is not None else "",
                    f"{least:.2f}" if least is not None else "",
                    "asked" if is_asked else "",
                )
            )
        found.append(
            table(
                ("Group", "Relevance by the question's own words", "", "Needs", ""),
                rows,
                ("short", "wide", "number", "number", "short"),
            )
        )
    if shown.nearest:
        found.append(
            element("p", "The labelled question most like it: ", element("em", f"“{cut(shown.nearest, 300)}”"))
        )
    if shown.taken_over is not None:
        groups = labels(shown.taken_over.groups, hues)
        found.append(
            element(
                "p",
                "Taken over from turn ",
                str(shown.taken_over.turn + 1),
                ": ",
                groups,
                element("em", f"“{cut(shown.taken_over.question, 300)}”"),
            )
        )
    reason = note(cut(shown.reason, 600))
    found.append(fold("In a sentence", reason) if shown.scores else reason)
    return found


def highlighted(question: str, words: Iterable[FoundWord], hues: Hues) -> Element:
    """Return a question with the words that point to a group marked; a word may point to several."""
    by_place: dict[tuple[int, int], list[str]] = {}
    for word in words:
        if 0 <= word.start < word.end <= len(question):
            by_place.setdefault((word.start, word.end), []).append(word.group)
    made = element("p", classes="question")
    end = 0
    for (start, stop), groups in sorted(by_place.items()):
        if start < end:
            continue
        named = ", ".join(spoken(group) for group in dict.fromkeys(groups))
        append(
            made,
            question[end:start],
            _marked(question[start:stop], named, hues(groups[0])),
        )
        end = stop
    append(made, question[end:])
    return made


def _marked(text: str, named: str, hue: str) -> Element:
    """Return a word with the groups it points to; without styles, they are in brackets."""
    about = element("small", element("span", " (", classes="sep"), named, element("span", ")", classes="sep"))
    return element("mark", text, about, classes=hue)


def group(shown: TWG) -> list[Node]:
    """Return a group's description, its prompt, and the words that point to it."""
    hues = Hues()
    terms = shown.terms if isinstance(shown.terms, Mapping) else {}
    names = {"en": "English", "fr": "French", "pt": "Portuguese", "any": "Any language"}
    words: list[Node] = []
    for language, listed in terms.items():
        some = list(listed)[:_MOST_TERMS]
        line = element("p")
        for term in some:
            append(line, code(term, 80), " ")
        more = len(list(listed)) - len(some)
        words.append(
            fold(
                f"{names.get(language, language)}: {counted(len(list(listed)), 'term')}",
                line,
                note(f"{more} more") if more > 0 else None,
            )
        )
    return [
        heading(
            shown.name,
            label(shown.id, hues(shown.id)),
            counted(sum(len(list(one)) for one in terms.values()), "term"),
        ),
        *prose(shown.description),
        fold("System prompt", *prose(shown.prompt)),
        *words,
    ]


def router_report(shown: RouterReport, title: str = "Router") -> list[Node]:
    """Return a router's figures, confusions and mistakes."""
    hues = Hues()
    rows = [
        (
            [label(spoken(name), hues(name))],
            f"{score.n:,}",
            [share_bar(score.f1, None, hues(name))],
            f"{score.f1:.3f}",
            f"{score.precision:.3f}",
            f"{score.recall:.3f}",
            f"+{score.added} −{score.missed}",
        )
        for name, score in shown.by_group.items()
    ]
    languages = [
        (name or "none", f"{score.n:,}", f"{score.micro_f1:.3f}", f"{score.exact_set:.1%}")
        for name, score in shown.by_language.items()
    ]
    return [
        heading(
            title,
            counted(shown.n, "question"),
            f"micro-F1 {shown.micro_f1:.3f}",
            f"exact {shown.exact_set:.1%}",
            f"{shown.ms_per_question:.2f} ms a question",
        ),
        table(
            ("Group", "Questions", "F1", "", "Precision", "Recall", "Added, missed"),
            rows,
            ("short", "number", "wide", "number", "number", "number", "number"),
        ),
        table(("Language", "Questions", "micro-F1", "Exact"), languages, ("short", "number", "number", "number")),
        part("What it confuses"),
        heat(shown.confusion),
        _mistakes(shown.mistakes, hues),
    ]


def heat(counts: Mapping[str, Mapping[str, int]]) -> Element:
    """Return a table of the expected groups (rows) and the chosen ones (columns)."""
    names = list(counts)
    head = element(
        "tr", element("th", "expected ↓ chosen →"), *(element("th", spoken(name), scope="col") for name in names)
    )
    body = element("tbody")
    for expected in names:
        line = element("tr", element("th", spoken(expected), scope="row"))
        for chosen in names:
            count = counts[expected].get(chosen, 0)
            kind = "" if not count else "right" if expected == chosen else "wrong"
            line.append(element("td", str(count) if count else "·", classes=kind))
        body.append(line)
    return element("table", element("thead", head), body, classes="heat")


def _mistakes(mistakes: Iterable[Any], hues: Hues) -> Element | None:
    listed = list(mistakes)
    if not listed:
        return note("No mistakes.")
    rows = [
        (
            cut(one.question.question, 200),
            [labels(one.question.groups, hues)],
            [labels(one.decision.groups, hues)],
        )
        for one in listed[:_MOST_MISTAKES]
    ]
    more = len(listed) - len(rows)
    return fold(
        counted(len(listed), "mistake"),
        table(("Question", "Expected", "Chosen"), rows, ("wide",)),
        note(f"{more:,} more in report.mistakes") if more else None,
    )


def dialogue_report(shown: DialogueReport, title: str = "Router on dialogues") -> list[Node]:
    """Return a router's figures on conversations."""
    languages = [
        (
            name or "none",
            f"{score.n:,}",
            f"{score.exact_set:.1%}",
            f"{score.in_context:,}",
            f"{score.exact_in_context:.1%}",
        )
        for name, score in shown.by_language.items()
    ]
    return [
        heading(
            title,
            counted(shown.n, "turn"),
            f"exact {shown.exact_set:.1%}",
            f"exact in context {shown.exact_in_context:.1%}",
            f"micro-F1 {shown.micro_f1:.3f}",
        ),
        table(
            ("Language", "Turns", "Exact", "In context", "Exact in context"),
            languages,
            ("short", "number", "number", "number", "number"),
        ),
        part("How it follows the subject"),
        heat(shown.moves),
    ]


def comparison(shown: Comparison) -> list[Node]:
    """Return a comparison of routers."""
    rows = [
        (
            name,
            f"{report.n:,}",
            [share_bar(report.micro_f1, None, "c0")],
            f"{report.micro_f1:.3f}",
            f"{report.exact_set:.1%}",
            f"{report.ms_per_question:.2f}",
        )
        for name, report in shown.reports.items()
    ]
    found: list[Node] = [heading("Routers compared")]
    if rows:
        found.append(
            table(
                ("Router", "Questions", "micro-F1", "", "Exact", "ms a question"),
                rows,
                ("short", "number", "wide", "number", "number", "number"),
            )
        )
    found += [fold(name, *router_report(report, name)) for name, report in shown.reports.items()]
    found += [
        fold(f"{name}, dialogues", *dialogue_report(report, f"{name}, dialogues"))
        for name, report in shown.dialogues.items()
    ]
    if (measured := shown.measured) is not None:
        found.append(
            note(
                f"{measured.model} was asked {counted(measured.asked, 'doubtful question')}: right "
                f"{measured.model_right} times, the router without it {measured.cheap_right} times."
            )
        )
    return found
