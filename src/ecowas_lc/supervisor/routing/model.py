"""The router that asks a chat model, held to the registered groups, and never depends on its good will."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from ecowas_lc.errors import ConfigurationError
from ecowas_lc.supervisor.routing.answers import Questionnaire, UnusableAnswerError
from ecowas_lc.supervisor.routing.decision import RouteDecision, checked_question
from ecowas_lc.supervisor.routing.embedding import name_of
from ecowas_lc.supervisor.routing.faults import describe
from ecowas_lc.supervisor.routing.lexical import LexicalRouter
from ecowas_lc.twg import TWG, default_groups, validate_groups

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.runnables import Runnable

# The same answer each time, no thinking aloud, and room for little more than a few ids. Models know these by
# different names; each gets those that it has.
_SETTINGS: dict[str, Any] = {"temperature": 0.0, "reasoning": False, "num_predict": 100, "max_tokens": 100}

log = logging.getLogger(__name__)

Messages = list[tuple[str, str]]


class ModelRouter:
    """Routes by asking a chat model for JSON; one repair try, then the lexical router decides.

    It never raises because of what a model says, fails at or can't do: an unreachable server, no structured
    output or nonsense all end with the lexical router, and the decision says why. The groups chosen are always
    registered ones, whatever the question tries to make the model say.

    Raises:
        ConfigurationError: ``model`` is no chat model.
        InvalidIdError, InvalidInputError: the groups can't be used.
    """

    def __init__(self, model: BaseChatModel, groups: Sequence[TWG] | None = None) -> None:
        if not hasattr(model, "invoke") or not hasattr(model, "ainvoke"):
            raise ConfigurationError(f"{model!r} is not a chat model. Pass a LangChain chat model as model=.")
        chosen = default_groups() if groups is None else validate_groups(groups)
        self._questionnaire = Questionnaire(tuple(chosen))
        self._words = LexicalRouter(chosen)
        self._ask = _structured(_steadied(model), self._questionnaire.schema())
        self.model_name = name_of(model)

    def route(self, question: str) -> RouteDecision:
        """Return the groups that the model names for this question, most relevant first.

        Raises:
            EmptyQuestionError: the question holds no text.
        """
        program = self._program(checked_question(question))
        messages = next(program)
        while True:
            try:
                said: Any = self._ask.invoke(messages)
            except Exception as error:  # whatever a model's client raises, the question must find its way
                said = error
            try:
                messages = program.send(said)
            except StopIteration as stop:
                decision: RouteDecision = stop.value
                return decision

    async def aroute(self, question: str) -> RouteDecision:
        """Return what :meth:`route` returns, without blocking the event loop."""
        program = self._program(checked_question(question))
        messages = next(program)
        while True:
            try:
                said: Any = await self._ask.ainvoke(messages)
            except Exception as error:  # as above
                said = error
            try:
                messages = program.send(said)
            except StopIteration as stop:
                decision: RouteDecision = stop.value
                return decision

    def _program(self, question: str) -> Generator[Messages, Any, RouteDecision]:
        """Yield what to say to the model and receive its answer, or the error there was instead."""
        messages = self._questionnaire.messages(question)
        said = yield messages
        try:
            return self._decision(said, "model", f"{self.model_name} chose so.")
        except UnusableAnswerError as error:
            problem = str(error)
        except _CallFailedError as error:
            return self._by_words(question, str(error))
        said = yield [*messages, ("assistant", _text(said) or "{}"), self._questionnaire.repair(problem)]
        try:
            return self._decision(said, "repaired", f"{self.model_name} chose so when asked again: {problem}.")
        except UnusableAnswerError as error:
            return self._by_words(question, f"its answers can't be used: {problem}; then {error}")
        except _CallFailedError as error:
            return self._by_words(question, f"its answer can't be used ({problem}), then {error}")

    def _decision(self, said: Any, source: str, reason: str) -> RouteDecision:
        if isinstance(said, Exception):
            raise _CallFailedError(f"the call failed: {describe(said)}")
        parsed = said.get("parsed") if isinstance(said, dict) and "raw" in said else said
        return RouteDecision(self._questionnaire.read(parsed, _text(said)), source, reason)

    def _by_words(self, question: str, problem: str) -> RouteDecision:
        log.warning("The words decide instead of %s: %s", self.model_name, problem)
        decision = self._words.route(question)
        return RouteDecision(
            decision.groups, decision.source, f"{self.model_name} did not route: {problem}. {decision.reason}"
        )


class _CallFailedError(Exception):
    """The model could not be asked; the message says why."""


def _steadied(model: BaseChatModel) -> BaseChatModel:
    fields = getattr(type(model), "model_fields", {})
    settings = {name: value for name, value in _SETTINGS.items() if name in fields}
    return model.model_copy(update=settings) if settings else model


def _structured(model: BaseChatModel, schema: dict[str, Any]) -> Runnable[Any, Any]:
    """Return the model held to the schema, or the model itself where it can't be: its text is read then."""
    try:
        return model.with_structured_output(schema, method="json_schema", include_raw=True)
    except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
        log.info("No structured output from %s: %s", name_of(model), describe(error))
        return model


def _text(said: Any) -> str:
    """Return the text of an answer, out of what structured output wraps it in."""
    message = said.get("raw") if isinstance(said, dict) and "raw" in said else said
    text = getattr(message, "text", message)  # a property that is also callable in older releases
    return text if isinstance(text, str) else ""
