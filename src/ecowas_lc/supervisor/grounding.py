"""Answers based on documents: passages in the prompt, and a check of the model's answer against them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever

from ecowas_lc._language import language_of
from ecowas_lc.documents.answers import (
    CheckedStream,
    Citation,
    GroundingMode,
    citation_of,
    grounded_answer,
    message_of,
)
from ecowas_lc.documents.evidence import Evidence
from ecowas_lc.documents.follow_up import find_all_evidence
from ecowas_lc.documents.question import ParsedQuestion, read_question
from ecowas_lc.documents.sources import Corpus, Source, sources_of
from ecowas_lc.effects import Doing, Program
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.model_calls import Ask, AskAloud
from ecowas_lc.supervisor.state import Report
from ecowas_lc.supervisor.streaming import Say
from ecowas_lc.supervisor.watching import Retrieve
from ecowas_lc.twg import TWG

_SHOWN = 4
"""Number of passages in a prompt; small models lose track with more."""
_INSTRUCTION = (
    "Answer from the passages below only, in one or two sentences, in the language of the question. "
    "Repeat figures, dates and names exactly as they stand there. If the passages do not say, answer: not stated."
)


_IS_QUESTION = re.compile(
    r"\?|^\W*(?:who|what|which|when|where|why|how|is|are|was|were|did|does|do|has|have"
    r"|qui|que|quoi|quels?|quelles?|quand|où|pourquoi|comment|combien|est-ce"
    r"|quem|qual|quais|quando|onde|porqu[eê]|como|quant[oa]s?|houve|há|foi)\b",
    re.IGNORECASE,
)
_TO_THE_ASSISTANT = re.compile(
    r"\b(?:you|your|tu|te|toi|vous|votre|vos|você|vocês|consegues|podes|podem)\b", re.IGNORECASE
)


class PassageSearch(Protocol):
    """A source of passages for groups, such as :class:`~ecowas_lc.Documents`."""

    def search(self, query: str, *, group: str | None = None) -> list[Source]:
        """Return the passages that match best."""
        ...

    async def asearch(self, query: str, *, group: str | None = None) -> list[Source]:
        """Return the passages that match best, without blocking the event loop."""
        ...


Readable = PassageSearch | BaseRetriever


class Readers(NamedTuple):
    """Whose documents an answer may use in addition to its group's own.

    Args:
        allowed: The groups that the user may ask; ``None`` means all.
        withheld: Groups whose answers are held for review; what only they may read is left out.
    """

    allowed: frozenset[str] | None = None
    withheld: frozenset[str] = frozenset()

    def may_read(self, source: Source) -> bool:
        """Return whether one of these groups, or every group, may read the source's document."""
        groups = frozenset(source.document.groups)
        return not groups or bool((groups if self.allowed is None else groups & self.allowed) - self.withheld)


class Grounding:
    """The documents of one graph: for all groups, or separate ones for each.

    Raises:
        ConfigurationError: An argument is not usable.
    """

    def __init__(self, documents: Readable | Mapping[str, Readable], mode: GroundingMode) -> None:
        if mode not in ("strict", "flag", "off"):
            raise ConfigurationError(f"grounding={mode!r} can't be used. Choose 'strict', 'flag' or 'off'.")
        self.mode = mode
        self.for_all = None if isinstance(documents, Mapping) else _checked(documents)
        self._by_group = (
            {group: _checked(one) for group, one in documents.items()} if isinstance(documents, Mapping) else {}
        )
        self.groups = tuple(self._by_group)

    def serves(self, group: str | None) -> bool:
        """Return whether a group (``None``: the supervisor) has documents."""
        return self.for_all is not None or group in self._by_group

    @property
    def knows_groups(self) -> bool:
        """Whether each group reads its own part of documents for all; a retriever does not tell groups apart."""
        return self.for_all is not None and not isinstance(self.for_all, BaseRetriever)

    def search(self, query: str, group: str | None) -> Program[list[Source]]:
        """Return the passages that a group may read, best first."""
        documents = self._by_group.get(group or "", self.for_all)
        if documents is None:
            return []
        if isinstance(documents, BaseRetriever):
            retriever = documents
            found = yield Retrieve(
                group, Doing(lambda _: retriever.invoke(query), lambda _: retriever.ainvoke(query))
            )
            return sources_of(found, language_of)
        search = documents
        sources: list[Source] = yield Retrieve(
            group, Doing(lambda _: search.search(query, group=group), lambda _: search.asearch(query, group=group))
        )
        return sources


def grounding_of(
    groups: Iterable[TWG],
    documents: Readable | Mapping[str, Readable] | None,
    mode: GroundingMode = "strict",
) -> Grounding | None:
    """Return the documents of a graph: those passed to it, and the groups' own.

    Raises:
        ConfigurationError: An argument is not usable, or a group's documents are given twice.
    """
    own = {group.id: group.documents for group in groups if group.documents is not None}
    if documents is None and not own:
        return None
    if isinstance(documents, Mapping):
        if twice := sorted(own.keys() & documents.keys()):
            raise ConfigurationError(
                f"documents= and TWG(documents=) both have documents for {', '.join(twice)}. Pass them once."
            )
        return Grounding({**documents, **own}, mode)
    grounding = Grounding(own, mode)
    grounding.for_all = None if documents is None else _checked(documents)
    return grounding


def unread_documents(group: str, why: str) -> ConfigurationError:
    """Return the error for a group that has documents but would answer without them."""
    return ConfigurationError(
        f"The group {group!r} has documents and {why}: such answers can't be checked against documents. Pass "
        f"documents= by group id, {{group id: documents}}, without {group!r}; or leave the group to the model."
    )


def grounded_report(
    ctx: Context,
    grounding: Grounding,
    group: str | None,
    system: str,
    question: HumanMessage,
    *,
    quiet: bool,
    in_full: str = "",
    readers: Readers | None = None,
) -> Program[Report]:
    """Return a group's answer based on its documents (``None``: the supervisor's, based on all documents).

    No model is asked if the documents do not answer the question: nothing that it said would pass the check.
    ``in_full`` is a follow-up as a complete question, derived from the conversation. Before a group says that the
    documents do not answer, it searches what ``readers`` may read, if given.
    """
    in_full = in_full or question.text
    evidence, sources, _ = yield from evidence_for(grounding, group, in_full, readers)
    if not evidence and group is not None and readers is not None and grounding.knows_groups:
        found, others, _ = yield from evidence_for(grounding, None, in_full, readers)
        if found:
            evidence, sources = found, others
    language = language_of(question.text)
    stream = CheckedStream(evidence, sources, language)
    said = ""
    calls = 0
    is_heard = False
    message_id = str(uuid4())
    if evidence or grounding.mode != "strict":
        window = yield from ctx.window()
        model = ctx.speaker(window)
        prompt = ctx.prompt(
            window, f"{system}\n\n{_INSTRUCTION}\n\n{_listed(evidence, sources)}", [HumanMessage(in_full)]
        )
        answer: AIMessage
        is_heard = grounding.mode == "strict" and not quiet
        if is_heard:
            answer = yield AskAloud(model, prompt, message_id, stream.take, stream.rest)
        else:
            answer = yield Ask(model, prompt, model, True)
            said = answer.text
            message_id = str(answer.id or message_id)
        ctx.learn(prompt, answer)
        calls = 1
    if grounding.mode != "strict":
        checked = grounded_answer(said, evidence=evidence, sources=sources, language=language, mode=grounding.mode)
    else:
        if stream.answer is None:
            stream.take(said)
        checked = stream.finished()
    if not quiet and not is_heard:
        yield Say(checked.text, message_id)
    return {
        "status": "answered",
        "text": checked.text,
        "model_calls": calls,
        "message_id": message_id,
        "tools": "none",
        "declined": checked.declined,
        "citations": [citation_of(span) for span in checked.citations],
        "passages": [_passage(source) for source in sources],
        "left_out": [one.text for one in checked.removed],
    }


def evidence_for(
    grounding: Grounding, group: str | None, question: str, readers: Readers | None = None
) -> Program[tuple[list[Evidence], list[Source], ParsedQuestion]]:
    """Return the sentences that answer a question, the passages found, and the question as interpreted.

    Without a ``group``, all documents are searched; what ``readers`` may not read is left out.
    """
    sources = yield from grounding.search(question, group)
    if group is None and readers is not None:
        sources = [source for source in sources if readers.may_read(source)]
    corpus = Corpus(sources)
    read = read_question(question, known_names=corpus.names)
    return find_all_evidence(question, sources, corpus), sources, read


def asks_for_facts(question: ParsedQuestion) -> bool:
    """Return whether a question asks for something that documents could state, unlike a greeting or small talk."""
    if not question.terms and not question.names:
        return False
    if question.wanted not in ("anything", "yes or no"):
        return True
    return _IS_QUESTION.search(question.text) is not None and _TO_THE_ASSISTANT.search(question.text) is None


def cited_message(report: Report, text: str, **fields: Any) -> AIMessage:
    """Return a report's answer as a message, with its citations as annotations."""
    return message_of(text, report.get("citations") or (), **fields)


def side_by_side(
    answers: Mapping[str, str], reports: Mapping[str, Report], names: Mapping[str, str]
) -> tuple[str, list[Citation]]:
    """Return several checked answers one after the other, with their marks renumbered."""
    text = ""
    citations: list[Citation] = []
    numbers: dict[tuple[str, int], int] = {}
    for group, answer in answers.items():
        own = reports[group].get("citations") or []
        renumbered: dict[int, int] = {}
        for one in own:
            renumbered[one["number"]] = numbers.setdefault(
                (one["document"], one["source_start"]), len(numbers) + 1
            )
        heading = f"**{names[group]}**\n\n"
        text += ("\n\n" if text else "") + heading
        shift = len(text)
        position = 0
        body = ""
        for one in sorted(own, key=lambda each: each["end"]):
            mark = f" [{one['number']}]"
            start, end = one["start"], one["end"]
            body += answer[position:end]
            begin = shift + len(body) - (end - start)
            citations.append(
                {**one, "number": renumbered[one["number"]], "start": begin, "end": shift + len(body)}
            )
            body += f" [{renumbered[one['number']]}]"
            position = end + len(mark)
        text += body + answer[position:]
    return text, citations


def _checked(documents: Readable) -> Readable:
    if isinstance(documents, BaseRetriever) or (
        callable(getattr(documents, "search", None)) and callable(getattr(documents, "asearch", None))
    ):
        return documents
    raise ConfigurationError(
        f"{documents!r} can't be used as documents. Pass Documents.from_settings(), or a LangChain retriever."
    )


def _listed(evidence: Sequence[Evidence], sources: Sequence[Source]) -> str:
    """Return the passages for a prompt, those with evidence first."""
    first = [one.source for one in evidence]
    current = [source for source in sources if not source.superseded]
    chosen = {(source.document.id, source.passage.number): source for source in [*first, *current]}
    return "\n\n".join(
        f"[{number}] {source.document.title}\n{source.passage.for_search}"
        for number, source in enumerate(list(chosen.values())[:_SHOWN], start=1)
    )


def _passage(source: Source) -> dict[str, Any]:
    return {
        "document": source.document.id,
        "file": source.document.name,
        "title": source.document.title,
        "page": source.passage.page,
        "number": source.passage.number,
        "text": source.passage.text,
    }
