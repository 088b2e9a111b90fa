"""How well answers are supported by the documents: each question is asked through the whole graph."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from langchain_core.runnables import Runnable

from ecowas_lc.documents.facts import quantities_in
from ecowas_lc.errors import EcowasError, InvalidInputError

_LOOKED_AT = 5


@dataclass(frozen=True, slots=True)
class GroundingQuestion:
    """A question with the quotations and texts of a correct answer; if not ``answerable``, it must be declined."""

    id: str
    q: str
    language: str = ""
    groups: tuple[str, ...] = ()
    answerable: bool = True
    support: tuple[tuple[str, str], ...] = ()
    """File names, each with a text that the file contains; one of them must be cited."""
    must_contain: tuple[str, ...] = ()
    must_not_contain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroundingRow:
    """The result for one question."""

    id: str
    answer: str
    declined: bool
    citations: tuple[tuple[str, str], ...]
    retrieved: tuple[str, ...]
    right: bool
    recalled: bool
    unsupported_figures: int


@dataclass(frozen=True, slots=True)
class GroundingReport:
    """The figures over all questions; shares are from 0 to 1."""

    rows: tuple[GroundingRow, ...]
    answered: float
    """Share of the answerable questions with a correct quotation, the required texts, and no forbidden text."""
    declined: float
    """Share of the unanswerable questions that were declined."""
    recall_at_5: float
    """Share of the answerable questions with every supporting document among the first five passages."""
    unsupported_figures: int
    ms_per_question: float = field(compare=False, default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as ``ecowas-lc eval --grounding FILE --json`` prints it."""
        return {
            "grounding": {
                "questions": len(self.rows),
                "answered": round(self.answered, 3),
                "declined": round(self.declined, 3),
                "recall_at_5": round(self.recall_at_5, 3),
                "unsupported_figures": self.unsupported_figures,
                "ms_per_question": round(self.ms_per_question, 1),
                "rows": [
                    {
                        "id": row.id,
                        "answer": row.answer,
                        "declined": row.declined,
                        "citations": [{"document": name, "cited_text": text} for name, text in row.citations],
                        "retrieved": list(row.retrieved),
                    }
                    for row in self.rows
                ],
            }
        }


def load_grounding(path: str | Path) -> tuple[GroundingQuestion, ...]:
    """Read questions from a JSONL file, one object per line; see :class:`GroundingQuestion`.

    Raises:
        InvalidInputError: The file cannot be read, or a line is not such an object; the message gives the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInputError(f"The questions in {path} can't be read: {reason}.") from None
    found = [_question_of(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise InvalidInputError(f"{path} contains no question. Put one JSON object on each line.")
    return tuple(found)


def evaluate_grounding(
    graph: Runnable[Any, Any],
    questions: Sequence[GroundingQuestion],
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> GroundingReport:
    """Ask each question in a thread of its own and compare its answer with the expected one."""
    rows = []
    begun = time.perf_counter()
    for number, question in enumerate(questions, start=1):
        rows.append(_row_of(graph, question))
        if on_progress is not None:
            on_progress("questions", number, len(questions))
    took = 1000 * (time.perf_counter() - begun) / max(1, len(questions))
    answerable = [row for row, question in zip(rows, questions, strict=True) if question.answerable]
    others = [row for row, question in zip(rows, questions, strict=True) if not question.answerable]
    return GroundingReport(
        tuple(rows),
        answered=_share(row.right for row in answerable),
        declined=_share(row.declined for row in others),
        recall_at_5=_share(row.recalled for row in answerable),
        unsupported_figures=sum(row.unsupported_figures for row in rows),
        ms_per_question=took,
    )


def _row_of(graph: Runnable[Any, Any], question: GroundingQuestion) -> GroundingRow:
    config: Any = {"configurable": {"thread_id": f"grounding-{uuid4().hex}"}}
    try:
        result = graph.invoke({"messages": [("user", question.q)]}, config)
    except EcowasError as error:
        return GroundingRow(question.id, f"{type(error).__name__}: {error}", False, (), (), False, False, 0)
    message = result["messages"][-1]
    reports = result.get("reports") or {}
    annotations = [note for block in message.content_blocks for note in block.get("annotations") or ()]
    citations = tuple(
        dict.fromkeys((str(note["extras"].get("file")), str(note.get("cited_text"))) for note in annotations)
    )
    retrieved = _interleaved([[passage["file"] for passage in r.get("passages") or ()] for r in reports.values()])
    answer = message.text
    declined = bool(reports) and all(report.get("declined") for report in reports.values())
    quoted = any(
        name == file and _squeezed(quote) in _squeezed(text)
        for name, quote in question.support
        for file, text in citations
    )
    right = (
        question.answerable
        and quoted
        and all(text in answer for text in question.must_contain)
        and not any(text in answer for text in question.must_not_contain)
    )
    return GroundingRow(
        question.id,
        answer,
        declined,
        citations,
        tuple(retrieved),
        right,
        all(name in retrieved[:_LOOKED_AT] for name, _ in question.support),
        0 if declined else _unsupported_figures(answer, [text for _, text in citations]),
    )


def _interleaved(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return the files of several groups' passages, the best of each group first, without duplicates."""
    longest = max(map(len, lists), default=0)
    return list(dict.fromkeys(one[place] for place in range(longest) for one in lists if place < len(one)))


def _unsupported_figures(answer: str, cited: Sequence[str]) -> int:
    plain = re.sub(r"\s*\[\d+\]|\(\d{4}-\d\d-\d\d[^)]*\)", "", answer)
    given = [quantity for text in cited for quantity in quantities_in(text)]
    return sum(not any(own.agrees_with(other) for other in given) for own in quantities_in(plain))


def _squeezed(text: str) -> str:
    return re.sub(r"[\s|:;]+", " ", text).strip().casefold()


def _share(found: Iterable[bool]) -> float:
    every = list(found)
    return sum(every) / len(every) if every else 1.0


def _question_of(line: str, place: str) -> GroundingQuestion:
    try:
        row = json.loads(line)
        return GroundingQuestion(
            id=str(row["id"]),
            q=str(row["q"]),
            language=str(row.get("language", "")),
            groups=tuple(map(str, row.get("groups", ()))),
            answerable=bool(row["answerable"]),
            support=tuple((str(one["doc"]), str(one["quote"])) for one in row.get("support", ())),
            must_contain=tuple(map(str, row.get("must_contain", ()))),
            must_not_contain=tuple(map(str, row.get("must_not_contain", ()))),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInputError(
            f'{place} is not a question. Write {{"id": "1", "q": "…", "answerable": true, "support": []}}; '
            'support holds objects such as {"doc": "a.md", "quote": "…"}.'
        ) from None
