"""Several groups' answers, brought together: views, agreements, conflicts, open questions, what is missing."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.errors import GraphBubbleUp

from ecowas_lc.errors import EcowasError, ModelError
from ecowas_lc.supervisor.calls import Ask, Recite
from ecowas_lc.supervisor.desk import Desk
from ecowas_lc.supervisor.phrases import Language, language_of, phrase
from ecowas_lc.supervisor.programs import Program
from ecowas_lc.supervisor.prompts import (
    plain_synthesis_prompt,
    synthesis_prompt,
    synthesis_request,
    synthesis_schema,
)
from ecowas_lc.supervisor.state import Report, Synthesis
from ecowas_lc.supervisor.tokens import shorten
from ecowas_lc.supervisor.voice import Say
from ecowas_lc.twg import TWG

log = logging.getLogger(__name__)

LISTS = ("agreements", "conflicts", "open_questions")
_FIRST_SENTENCE = re.compile(r".+?[.!?](?=\s|$)", re.DOTALL)


def answered(reports: Mapping[str, Report]) -> dict[str, str]:
    """Return the answers that were given and released, by group."""
    return {group: report["text"] for group, report in reports.items() if report["status"] == "answered"}


def missing_views(reports: Mapping[str, Report], language: Language) -> dict[str, str]:
    """Return, by group, why its view is missing."""
    reasons: dict[str, str] = {}
    for group, report in reports.items():
        if report["status"] == "rejected":
            reasons[group] = phrase("rejected", language)
        elif report["status"] == "failed":
            what = report.get("reason", "").partition(". ")[0].rstrip(".")  # what mends it is not the user's
            reasons[group] = phrase("failed", language, error=what)
    return reasons


def missing_note(missing: Mapping[str, str], groups: Mapping[str, TWG], language: Language) -> str:
    """Return the sentences that say whose view is missing and why; ``""`` where none is."""
    return "\n".join(
        phrase("missing", language, name=groups[group].name, reason=reason) for group, reason in missing.items()
    )


def synthesis_of(
    desk: Desk, question: HumanMessage, reports: Mapping[str, Report]
) -> Program[tuple[AIMessage, Synthesis]]:
    """Return the final answer of several groups and what it is made of.

    It never fails for the model's sake: where the model can't fill a form it writes prose, and where it can't do
    that either the groups' answers stand one after the other.
    """
    answers = answered(reports)
    names = {group: desk.groups[group].name for group in answers}
    language = language_of(question.text)
    missing = missing_views(reports, language)
    note = missing_note(missing, desk.groups, language)
    try:
        made = yield desk.limited(
            _made_by_model(desk, question, answers, names, missing, note, language), "The synthesis"
        )
    except GraphBubbleUp:
        raise
    except Exception as error:  # the groups' answers must not be lost for it
        _tell(error, "The synthesis was not made by the model")
        text = _with_note("\n\n".join(f"**{names[g]}**\n\n{answers[g]}" for g in answers), note)
        made = AIMessage(text, id=str(uuid4())), _synthesis(text, answers, missing, "reports")
    result: tuple[AIMessage, Synthesis] = made
    return result


def verbatim(answers: Mapping[str, str], missing: Mapping[str, str], text: str) -> Synthesis:
    """Return the synthesis of a single answer: itself."""
    return _synthesis(text, answers, missing, "verbatim")


def _made_by_model(
    desk: Desk,
    question: HumanMessage,
    answers: Mapping[str, str],
    names: Mapping[str, str],
    missing: Mapping[str, str],
    note: str,
    language: Language,
) -> Program[tuple[AIMessage, Synthesis]]:
    window = yield from desk.window()
    model = desk.speaker(window)
    absent = [desk.groups[group].name for group in missing]
    share = max((window.prompt // 2) // len(answers), 16)
    request = HumanMessage(
        synthesis_request(
            shorten(question.text, max(window.prompt // 4, 16)),
            {group: shorten(text, share) for group, text in answers.items()},
            names,
        )
    )
    message_id = str(uuid4())

    def render(value: Mapping[str, Any], *, complete: bool) -> str:
        return _with_note(rendered(value, names, language, complete=complete), note if complete else "")

    try:
        value = yield Recite(
            model,
            synthesis_schema(names),
            desk.prompt(window, synthesis_prompt(names, absent), [request]),
            message_id,
            render,
        )
    except GraphBubbleUp:
        raise
    except Exception as error:  # prose may still work
        _tell(error, "The model made no structured synthesis")
        value = None
    text = render(value, complete=True) if value is not None else ""
    if value is not None and rendered(value, names, language, complete=True).strip():
        synthesis: Synthesis = {
            "text": text,
            "views": {group: view for group, view in _views(value, names).items() if view},
            "agreements": _sentences(value.get("agreements")),
            "conflicts": _sentences(value.get("conflicts")),
            "open_questions": _sentences(value.get("open_questions")),
            "missing": dict(missing),
            "form": "structured",
        }
        return AIMessage(text, id=message_id), synthesis
    return (yield from _prose(desk, request, answers, names, missing, note))


def _prose(
    desk: Desk,
    request: HumanMessage,
    answers: Mapping[str, str],
    names: Mapping[str, str],
    missing: Mapping[str, str],
    note: str,
) -> Program[tuple[AIMessage, Synthesis]]:
    window = yield from desk.window()
    model = desk.speaker(window)
    absent = [desk.groups[group].name for group in missing]
    prompt = desk.prompt(window, plain_synthesis_prompt(names, absent), [request])
    answer: AIMessage = yield Ask(model, prompt, model)
    text = answer.text.strip()
    if not text:
        raise ModelError("The model answered nothing.")
    views = {group: _first_sentence(answers[group]) for group in answers}
    unnamed = [group for group in answers if names[group].lower() not in text.lower()]
    rest = _with_note("\n".join(f"**{names[group]}**: {views[group]}" for group in unnamed), note)
    if rest:
        yield Say(f"\n\n{rest}", str(answer.id))
        text = f"{text}\n\n{rest}"
    return AIMessage(text, id=answer.id), _synthesis(text, views, missing, "text")


def rendered(value: Mapping[str, Any], names: Mapping[str, str], language: Language, *, complete: bool) -> str:
    """Return a synthesis as text, in the order of its schema.

    While the answer is still being made (not ``complete``), the text of each version begins with that of the
    version before: what may yet change is left out.
    """
    paragraphs: list[str] = []
    views = _views(value, names)
    views_done = complete or any(key in value for key in (*LISTS, "answer"))
    spoken = [group for group in names if views[group]]
    if not views_done:
        spoken = spoken[: list(names).index(spoken[-1]) + 1] if spoken else []
    paragraphs.extend(f"**{names[group]}**: {views[group]}" for group in spoken)
    for position, key in enumerate(LISTS):
        done = complete or any(later in value for later in (*LISTS[position + 1 :], "answer"))
        raw = value.get(key)
        items = _sentences(raw if done or not isinstance(raw, list) else raw[:-1])
        if items:
            lines = "\n".join(f"- {item}" for item in items)
            paragraphs.append(f"**{phrase(key, language)}**\n{lines}")
    answer = value.get("answer")
    if isinstance(answer, str) and answer.strip():
        paragraphs.append(f"**{phrase('in_short', language)}**: {answer.strip()}")
    return "\n\n".join(paragraphs)


def _views(value: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    views = value.get("views")
    found = views if isinstance(views, Mapping) else {}
    return {group: text.strip() if isinstance(text := found.get(group), str) else "" for group in names}


def _sentences(value: object) -> list[str]:
    """Return the texts of a list that say something; small models fill lists with 'none' and blanks."""
    items: Sequence[object] = value if isinstance(value, list) else []
    texts = [item.strip() for item in items if isinstance(item, str)]
    return [text for text in texts if text.strip(" .-–").lower() not in _NOTHING]


_NOTHING = frozenset({"", "none", "n/a", "null", "aucun", "aucune", "nenhum", "nenhuma", "[]", "..."})


def _tell(error: Exception, what: str) -> None:
    expected = isinstance(error, EcowasError)
    log.log(logging.INFO if expected else logging.WARNING, "%s: %s", what, error, exc_info=not expected)


def _first_sentence(text: str) -> str:
    plain = " ".join(text.split())
    found = _FIRST_SENTENCE.match(plain)
    return shorten(found.group() if found else plain, 80)


def _with_note(text: str, note: str) -> str:
    return f"{text}\n\n{note}" if text and note else text or note


def _synthesis(text: str, views: Mapping[str, str], missing: Mapping[str, str], form: Any) -> Synthesis:
    return {
        "text": text,
        "views": dict(views),
        "agreements": [],
        "conflicts": [],
        "open_questions": [],
        "missing": dict(missing),
        "form": form,
    }
