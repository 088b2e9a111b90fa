"""``ecowas-lc eval``: measures the quality of the routers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc.cli.screen import check_target, naming, remark, shown_progress
from ecowas_lc.cli.terminal import one_line, out, show_json, write
from ecowas_lc.errors import ConfigurationError, InvalidInputError
from ecowas_lc.settings import get_settings

if TYPE_CHECKING:
    from ecowas_lc.supervisor.evaluation import Dialogue, LabelledQuestion


def evaluate(
    source: str, routers: Sequence[str], *, model_name: str | None, picture: Path | None, as_json: bool
) -> None:
    """Show each router's figures on labelled questions; with a model, also measure and save its benefit.

    Raises:
        InvalidInputError: The questions cannot be read.
        ConfigurationError, MissingExtraError: A router is not usable.
    """
    from ecowas_lc.cli.models import chosen_model
    from ecowas_lc.supervisor.evaluation import (
        compare_routers,
        draw_confusion,
        format_dialogues,
        format_table,
        save_measurement,
    )

    if picture is not None:  # checked before models are asked for minutes
        check_target(picture, ".png")
    questions, dialogues = _labelled(source)
    if "model" in routers and not model_name:
        raise ConfigurationError("The router 'model' needs a model. Pass one, such as --model llama3.2:3b.")
    from ecowas_lc.local_model import MODEL_NAME

    settings = get_settings()
    chosen = {"ollama_model": model_name}
    if model_name != MODEL_NAME:
        # If a model is named, measure that one: the small local model must not replace it.
        chosen["ollama_base_url"] = settings.ollama_base_url
    settings = settings.model_copy(update=chosen)
    with chosen_model(settings) if model_name else nullcontext() as model:
        if model is not None and model.note:
            remark(model.note)
        with shown_progress() as progress:
            found = compare_routers(
                routers or None,
                questions=questions,
                dialogues=dialogues,
                model=model.chat if model is not None else None,
                on_progress=progress,
            )
    if found.measured is not None:
        save_measurement(found.measured)
    if picture is not None and found.reports:
        with naming(picture):
            picture = draw_confusion(found.reports, picture)
    if as_json:
        show_json(found.as_dict())
        return
    if found.reports:
        out().print(f"{len(questions)} questions from {source}\n")
        write(f"{format_table(found.reports)}\n")
    if found.dialogues:
        named = "dialogue" if len(dialogues) == 1 else "dialogues"
        gap = "\n" if found.reports else ""
        out().print(f"{gap}{len(dialogues)} {named} from {source}, turn by turn\n")
        write(f"{format_dialogues(found.dialogues)}\n")
    if found.measured is not None:
        one = found.measured
        verdict = "will ask it there" if one.is_better else "will not ask it"
        out().print(
            f"\nOn the {one.asked} questions where the other routers are unsure, {one.model} was right "
            f"{one.model_right} times, and they {one.cheap_right} times. The hybrid router {verdict}.",
            markup=False,
        )
    if picture is not None:
        out().print(f"\nPicture  {picture.resolve()}")


def evaluate_answers(source: str, *, model_name: str | None, as_json: bool) -> None:
    """Ask each question of a file about the stored documents, and show how well they support the answers.

    Raises:
        InvalidInputError: The questions cannot be read, or there are no documents.
    """
    from ecowas_lc.cli.docs import opened_documents
    from ecowas_lc.cli.models import chosen_model
    from ecowas_lc.supervisor import build_supervisor
    from ecowas_lc.supervisor.evaluation.grounding_report import evaluate_grounding, load_grounding

    questions = load_grounding(source)
    settings = get_settings()
    if model_name:
        settings = settings.model_copy(update={"ollama_model": model_name})
    with opened_documents() as documents, chosen_model(settings) as model:
        if not documents.all():
            raise InvalidInputError("There are no documents to answer from. Add some: ecowas-lc docs add FILE…")
        if model.note:
            remark(model.note)
        graph = build_supervisor(model.chat, router=settings.router, documents=documents)
        with shown_progress() as progress:
            report = evaluate_grounding(graph, questions, on_progress=progress)
    if as_json:
        show_json(report.as_dict())
        return
    lines = [
        ("answered, with the right quotation", f"{report.answered:.0%} of the answerable questions"),
        ("declined", f"{report.declined:.0%} of the others"),
        ("documents found (first five passages)", f"{report.recall_at_5:.0%}"),
        ("figures without a source", str(report.unsupported_figures)),
        ("time", f"{report.ms_per_question:.0f} ms a question"),
    ]
    write(f"{len(questions)} questions from {one_line(source)}, answered by {model.name}\n\n")
    for name, value in lines:
        write(f"{name:40}{value}\n")
    expected = dict(zip((row.id for row in report.rows), questions, strict=True))
    wrong = [row for row in report.rows if not (row.right if expected[row.id].answerable else row.declined)]
    for row in wrong:
        write(f"\n{one_line(row.id)}: {one_line(expected[row.id].q)}\n  {one_line(row.answer)}\n")


def _labelled(source: str) -> tuple[tuple[LabelledQuestion, ...], tuple[Dialogue, ...]]:
    from ecowas_lc.supervisor.evaluation import (
        evaluation_dialogues,
        evaluation_set,
        load_dialogues,
        load_questions,
    )
    from ecowas_lc.twg import DIALOGUE_SETS, EVALUATION_SETS

    if source in EVALUATION_SETS:
        return evaluation_set(source), evaluation_dialogues(source) if source in DIALOGUE_SETS else ()
    dialogues = load_dialogues(source)
    return load_questions(source), dialogues
