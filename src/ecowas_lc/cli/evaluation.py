"""``ecowas-lc eval``: how good the routers are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ecowas_lc.cli.screen import check_target, naming, remark, shown_progress
from ecowas_lc.cli.terminal import out, show_json, write
from ecowas_lc.errors import ConfigurationError
from ecowas_lc.settings import get_settings

if TYPE_CHECKING:
    from ecowas_lc.supervisor.evaluation import LabelledQuestion


def evaluate(
    source: str, routers: Sequence[str], *, model_name: str | None, picture: Path | None, as_json: bool
) -> None:
    """Show each router's figures on labelled questions; with a model, measure and remember what it is worth.

    Raises:
        InvalidInputError: the questions can't be read.
        ConfigurationError, MissingExtraError: a router can't be used.
    """
    from ecowas_lc.cli.models import chosen_model
    from ecowas_lc.supervisor.evaluation import (
        compare_routers,
        draw_confusion,
        format_table,
        save_measurement,
    )

    if picture is not None:  # before models are asked for minutes
        check_target(picture, ".png")
    questions = _questions(source)
    if "model" in routers and not model_name:
        raise ConfigurationError("The router 'model' needs a model: add --model, such as --model llama3.2:3b.")
    from ecowas_lc.local_model import MODEL_NAME

    settings = get_settings()
    chosen = {"ollama_model": model_name}
    if model_name != MODEL_NAME:
        # A model that was named is the one to measure: the small local one does not stand in for it.
        chosen["ollama_base_url"] = settings.ollama_base_url
    settings = settings.model_copy(update=chosen)
    with chosen_model(settings) if model_name else nullcontext() as model:
        if model is not None and model.note:
            remark(model.note)
        with shown_progress() as progress:
            found = compare_routers(
                routers or None,
                questions=questions,
                model=model.chat if model is not None else None,
                on_progress=progress,
            )
    if found.measured is not None:
        save_measurement(found.measured)
    if picture is not None:
        with naming(picture):
            picture = draw_confusion(found.reports, picture)
    if as_json:
        show_json(found.as_dict())
        return
    out().print(f"{len(questions)} questions from {source}\n")
    write(f"{format_table(found.reports)}\n")
    if found.measured is not None:
        one = found.measured
        verdict = "so it is asked there" if one.is_better else "so it is not asked"
        out().print(
            f"\nWhere the others are unsure ({one.asked} questions): {one.model} {one.model_right} right, "
            f"they {one.cheap_right}; {verdict}.",
            markup=False,
        )
    if picture is not None:
        out().print(f"\nPicture  {picture.resolve()}")


def _questions(source: str) -> tuple[LabelledQuestion, ...]:
    from ecowas_lc.supervisor.evaluation import evaluation_set, load_questions
    from ecowas_lc.twg.questions import EVALUATION_SETS

    return evaluation_set(source) if source in EVALUATION_SETS else load_questions(source)
