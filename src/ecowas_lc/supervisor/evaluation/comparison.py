"""Several routers compared on the same questions, and the benefit of a model where the cheap ones are unsure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecowas_lc._display import Displayed
from ecowas_lc._embeddings import offline_installed
from ecowas_lc.supervisor.evaluation.dialogues import DialogueReport, evaluate_dialogues
from ecowas_lc.supervisor.evaluation.report import RouterReport, evaluate
from ecowas_lc.supervisor.routing import ROUTERS, get_router
from ecowas_lc.supervisor.routing.hybrid import HybridRouter
from ecowas_lc.supervisor.routing.measurement import ModelMeasurement, groups_digest
from ecowas_lc.supervisor.routing.model import ModelRouter
from ecowas_lc.twg import TWG, Dialogue, LabelledQuestion, default_groups, evaluation_set

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

_MEASURED_ON = ("dev", "validation")

RouterProgress = Callable[[str, int, int], None]
"""Called with a router's name, the number of questions done, and their total."""


@dataclass(frozen=True, slots=True)
class Comparison(Displayed):
    """One report per router on questions and on dialogues, and the model's measurement if there is a model."""

    reports: dict[str, RouterReport]
    measured: ModelMeasurement | None = None
    dialogues: dict[str, DialogueReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return each router's figures by its name, ready for JSON; those on dialogues under ``dialogues``."""
        figures: dict[str, Any] = {name: report.as_dict() for name, report in self.reports.items()}
        for name, report in self.dialogues.items():
            figures.setdefault(name, {})["dialogues"] = report.as_dict()
        return figures


def compare_routers(
    names: Sequence[str] | None = None,
    *,
    questions: Iterable[LabelledQuestion] | None = None,
    dialogues: Iterable[Dialogue] = (),
    groups: Sequence[TWG] | None = None,
    model: BaseChatModel | None = None,
    embeddings: Embeddings | None = None,
    on_progress: RouterProgress | None = None,
) -> Comparison:
    """Evaluate routers by name.

    With a model and ``"hybrid"``, the model is measured first (:func:`measure_model`), and the hybrid router asks
    it only if it proved better.

    Args:
        names: The routers' names; ``None`` means all that are usable with what is given and installed.
        questions: The labelled questions. Defaults to the development set; may be empty if there are dialogues.
        dialogues: The labelled dialogues.

    Raises:
        ConfigurationError, MissingExtraError: A named router cannot be built; see
            :func:`ecowas_lc.supervisor.routing.get_router`.
        InvalidInputError: There is neither a question nor a dialogue, or the groups are not usable.
    """
    conversations = tuple(dialogues)
    asked = evaluation_set("dev") if questions is None else tuple(questions)
    chosen = usable_routers(model=model, embeddings=embeddings) if names is None else tuple(names)
    measured: ModelMeasurement | None = None
    if model is not None and "hybrid" in chosen:
        measured = measure_model(model, groups=groups, embeddings=embeddings, on_progress=on_progress)
    reports: dict[str, RouterReport] = {}
    followed: dict[str, DialogueReport] = {}
    for name in chosen:
        router = get_router(
            name,
            groups=groups,
            model=model,
            embeddings=embeddings,
            ask_model=measured is not None and measured.is_better,
        )
        if asked or not conversations:
            reports[name] = evaluate(router, asked, on_question=_named(on_progress, name))
        if conversations:
            step = _named(on_progress, f"{name}, dialogues")
            followed[name] = evaluate_dialogues(router, conversations, on_dialogue=step)
    return Comparison(reports, measured, followed)


def measure_model(
    model: BaseChatModel,
    *,
    groups: Sequence[TWG] | None = None,
    embeddings: Embeddings | None = None,
    questions: Iterable[LabelledQuestion] | None = None,
    on_progress: RouterProgress | None = None,
) -> ModelMeasurement:
    """Ask the model the questions on which the cheap routers are unsure, and return who was right more often.

    About one in six of ``questions`` (by default, the ordinary evaluation sets) is asked. Nothing is written;
    use :func:`ecowas_lc.supervisor.routing.measurement.save_measurement` for that.
    """
    chosen = default_groups() if groups is None else tuple(groups)
    asked = [question for name in _MEASURED_ON for question in evaluation_set(name)]
    cheap = HybridRouter(chosen, embeddings=embeddings)
    router = ModelRouter(model, chosen)
    weighed = [(question, cheap.weigh(question.question)) for question in questions or asked]
    unsure = [(question, doubt.decision) for question, doubt in weighed if doubt.is_unsure]
    report = _named(on_progress, router.model_name)
    model_right = cheap_right = 0
    for done, (question, decision) in enumerate(unsure, start=1):
        expected = set(question.groups)
        answer = router.route(question.question)
        model_right += answer.source in ("model", "repaired") and set(answer.groups) == expected
        cheap_right += set(decision.groups) == expected
        if report is not None:
            report(done, len(unsure))
    return ModelMeasurement(
        model=router.model_name,
        groups=groups_digest(chosen),
        cheap_router=cheap.cheap_router,
        asked=len(unsure),
        model_right=model_right,
        cheap_right=cheap_right,
    )


def usable_routers(*, model: object = None, embeddings: object = None) -> tuple[str, ...]:
    """Return the names of the routers that are usable with what is given and installed."""
    lacking = set()
    if embeddings is None and not offline_installed():
        lacking.add("semantic")
    if model is None:
        lacking.add("model")
    return tuple(name for name in ROUTERS if name not in lacking)


def _named(progress: RouterProgress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)
