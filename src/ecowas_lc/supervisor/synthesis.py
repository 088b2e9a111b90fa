"""Several groups' answers, brought together: views, agreements, conflicts, open questions, what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.errors import GraphBubbleUp

from ecowas_lc.errors import EcowasError, ModelError
from ecowas_lc.supervisor.calls import Ask, Recite
from ecowas_lc.supervisor.desk import Desk
from ecowas_lc.supervisor.digest import Digest
from ecowas_lc.supervisor.figures import Sources
from ecowas_lc.supervisor.language import Language, language_of
from ecowas_lc.supervisor.phrases import phrase
from ecowas_lc.supervisor.programs import Program
from ecowas_lc.supervisor.prompts import (
    plain_synthesis_prompt,
    synthesis_prompt,
    synthesis_request,
    synthesis_schema,
)
from ecowas_lc.supervisor.state import Report, Synthesis
from ecowas_lc.supervisor.tokens import shorten
from ecowas_lc.supervisor.voice import whole_text
from ecowas_lc.twg import TWG

log = logging.getLogger(__name__)


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

    It never fails for the model's sake: where the model can't fill a form it writes prose, and where nothing of
    what it makes can be used the groups' answers stand one after the other. Figures that neither a group nor
    the user gave are left out.
    """
    answers = answered(reports)
    language = language_of(question.text)
    missing = missing_views(reports, language)
    digest = Digest(
        question=question.text,
        answers=answers,
        names={group: desk.groups[group].name for group in answers},
        missing=missing,
        note=missing_note(missing, desk.groups, language),
        language=language,
    )
    try:
        made: tuple[AIMessage, Synthesis] = yield desk.limited(_made_by_model(desk, digest), "The synthesis")
    except GraphBubbleUp:
        raise
    except Exception as error:  # the groups' answers must not be lost for it
        _tell(error, "The synthesis was not made by the model")
        text = "\n\n".join(f"**{digest.names[group]}**\n\n{answers[group]}" for group in answers)
        return _plain(digest, text, answers, "reports", [])
    return made


def verbatim(answers: Mapping[str, str], missing: Mapping[str, str], text: str) -> Synthesis:
    """Return the synthesis of a single answer: itself."""
    return {**_EMPTY, "text": text, "views": dict(answers), "missing": dict(missing), "form": "verbatim"}


def _made_by_model(desk: Desk, digest: Digest) -> Program[tuple[AIMessage, Synthesis]]:
    window = yield from desk.window()
    model = desk.speaker(window)
    absent = [desk.groups[group].name for group in digest.missing]
    share = max((window.prompt // 2) // len(digest.answers), 16)
    request = HumanMessage(
        synthesis_request(
            shorten(digest.question, max(window.prompt // 4, 16)),
            {group: shorten(text, share) for group, text in digest.answers.items()},
            digest.names,
        )
    )
    message_id = str(uuid4())
    try:
        value = yield Recite(
            model,
            synthesis_schema(digest.names),
            desk.prompt(window, synthesis_prompt(digest.names, absent), [request]),
            message_id,
            digest.text,
        )
    except GraphBubbleUp:
        raise
    except Exception as error:  # prose may still work
        _tell(error, "The model made no structured synthesis")
        value = None
    if value is not None:
        synthesis = digest.synthesis(value)
        if synthesis is None:
            raise ModelError("nothing that the model said of the groups' answers can be used")
        return AIMessage(synthesis["text"], id=message_id), synthesis

    prompt = desk.prompt(window, plain_synthesis_prompt(digest.names, absent), [request])
    answer: AIMessage = yield Ask(model, prompt, model, quiet=True)
    prose = yield from whole_text(answer, quiet=True)
    text, left_out = Sources([digest.question, *digest.answers.values()]).supported(prose)
    if not text:
        raise ModelError("nothing that the model said of the groups' answers can be used")
    views = {group: digest.own_words(group) for group in digest.answers}
    unnamed = [group for group in views if digest.names[group].lower() not in text.lower()]
    attributed = "\n".join(f"**{digest.names[group]}**: {views[group]}" for group in unnamed)
    return _plain(digest, "\n\n".join(filter(None, (text, attributed))), views, "text", left_out)


_EMPTY: Synthesis = {
    "text": "",
    "views": {},
    "agreements": [],
    "conflicts": [],
    "open_questions": [],
    "missing": {},
    "left_out": [],
    "form": "reports",
}


def _plain(
    digest: Digest,
    text: str,
    views: Mapping[str, str],
    form: Literal["text", "reports"],
    left_out: list[str],
) -> tuple[AIMessage, Synthesis]:
    whole = "\n\n".join(filter(None, (text, digest.note)))
    synthesis: Synthesis = {
        **_EMPTY,
        "text": whole,
        "views": dict(views),
        "missing": dict(digest.missing),
        "left_out": left_out,
        "form": form,
    }
    return AIMessage(whole, id=str(uuid4())), synthesis


def _tell(error: Exception, what: str) -> None:
    expected = isinstance(error, EcowasError)
    log.log(logging.INFO if expected else logging.WARNING, "%s: %s", what, error, exc_info=not expected)
