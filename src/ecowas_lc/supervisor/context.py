"""What the nodes of one graph share: the model, the groups, the router, the histories and the limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

from ecowas_lc.effects import Doing, Program
from ecowas_lc.llm import aeffective_context, effective_context, within_context
from ecowas_lc.llm.tokens import UNKNOWN_CONTEXT, TokenCounter, Window, count_tokens
from ecowas_lc.supervisor.concurrency import Limited, LoopGuard, Slots
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.supervisor.history_sync import OpenHistory
from ecowas_lc.supervisor.model_calls import Agent
from ecowas_lc.supervisor.routing import ConversationRouter
from ecowas_lc.supervisor.trimming import Exchange, prompt_of
from ecowas_lc.twg import TWG

if TYPE_CHECKING:
    from ecowas_lc.supervisor.grounding import Grounding

Graph = Pregel[Any, Any, Any, Any]
OnWaiting = Literal["refuse", "drop"]

_ENOUGH_TO_LEARN_FROM = 200
_MOST_CORRECTION = 3.0


@dataclass(slots=True)
class Context:
    """The collaborators and limits of one compiled graph, shared by all its runs and threads."""

    model: BaseChatModel
    groups: Mapping[str, TWG]
    router: ConversationRouter
    tools: Mapping[str, Mapping[str, BaseTool]]
    history_factory: OpenHistory | None
    held: frozenset[str]
    slots: Slots
    group_timeout: float | None
    max_hops: int
    max_repeats: int
    counter: TokenCounter
    num_ctx: int | None = None
    agents: Mapping[str, Agent] = field(default_factory=dict)
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    can_call_tools: bool = True
    on_waiting: OnWaiting = "refuse"
    on_busy: OnBusy | None = None
    busy_wait_seconds: float = 60.0
    grounding: Grounding | None = None
    tool_graphs: dict[str, Graph] = field(default_factory=dict)
    correction: float = 1.0
    _window: Window | None = None
    _fitted: BaseChatModel | None = None

    def window(self) -> Program[Window]:
        """Return how many tokens the model accepts, asking its server the first time.

        Raises:
            ModelError: The server does not answer, or does not have the model.
        """
        if self._window is None:
            context = yield Doing(
                lambda _: effective_context(self.model, self.num_ctx),
                lambda _: aeffective_context(self.model, self.num_ctx),
            )
            limit = getattr(self.model, "num_predict", None)
            self._window = Window.of(context or UNKNOWN_CONTEXT, limit)
        return self._window

    def speaker(self, window: Window) -> BaseChatModel:
        """Return the model, limited to the window."""
        if self._fitted is None:
            self._fitted = within_context(self.model, window.context, window.answer)
        return self._fitted

    def count(self, messages: Sequence[BaseMessage]) -> int:
        """Return how many tokens messages take, calibrated by the model's earlier counts."""
        served = getattr(self.model, "served", None)  # this process's knowledge of a model on Ollama
        if served is not None and self.counter is count_tokens:
            return int(served.calibration.count(messages))
        return math.ceil(self.counter(messages) * self.correction)

    def learn(self, prompt: Sequence[BaseMessage], answer: AIMessage, extra: int = 0) -> None:
        """Raise later estimates if the model counted more tokens in a prompt than estimated.

        Estimates are never lowered, because servers do not count what they had cached or cut off.
        """
        used: Mapping[str, Any] = answer.usage_metadata or {}  # of a cached answer, it has only the cost
        told = used.get("input_tokens", 0)
        estimated = self.counter(prompt) + extra
        if estimated >= _ENOUGH_TO_LEARN_FROM and told > estimated * self.correction:
            self.correction = min(told / estimated, _MOST_CORRECTION)

    def prompt(
        self,
        window: Window,
        system: str,
        turn: Sequence[BaseMessage],
        past: Sequence[Exchange] = (),
        extra: int = 0,
    ) -> list[BaseMessage]:
        """Return a prompt that fits the window.

        Raises:
            ContextOverflowError: This turn does not fit, even without the past.
        """
        name = str(getattr(self.model, "model", None) or type(self.model).__name__)
        return prompt_of(system, past, turn, window=window, count=self.count, extra=extra, who=f"the model {name}")

    def limited(self, program: Program[Any], who: str) -> Limited:
        """Return the effect that runs a program in one of the slots and within the time limit."""
        return Limited(program, who, self.group_timeout, self.slots)

    def guard(self, who: str) -> LoopGuard:
        """Return the guard against loops."""
        return LoopGuard(who, self.max_hops, self.max_repeats)
