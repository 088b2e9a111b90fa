"""The supervisor graph, put together: route, ask the groups in parallel, bring their answers together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as as_tool
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from ecowas_lc.effects import Program, arun, run
from ecowas_lc.errors import ConfigurationError, InvalidInputError, UnknownGroupError
from ecowas_lc.llm import chat_model
from ecowas_lc.supervisor import nodes
from ecowas_lc.supervisor.concurrency import Slots
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.histories import HistoryFactory
from ecowas_lc.supervisor.model_calls import Agent
from ecowas_lc.supervisor.routing import Router, get_router
from ecowas_lc.supervisor.state import SUPERVISOR, SupervisorInput, SupervisorOutput, SupervisorState
from ecowas_lc.supervisor.tokens import TokenCounter, count_tokens
from ecowas_lc.twg import TWG, default_groups, validate_groups

ToolLike = BaseTool | Callable[..., Any]
RESERVED_IDS = frozenset({*nodes.NODES, *SupervisorState.__annotations__})
"""Ids that no group may have here: the graph's own nodes and state keys."""


def build_supervisor(
    model: BaseChatModel | str | None = None,
    *,
    groups: Sequence[TWG] | None = None,
    router: str | Router = "hybrid",
    checkpointer: Checkpointer = None,
    history_factory: HistoryFactory | None = None,
    max_parallel: int | None = None,
    interrupt_before_release: Collection[str] | Literal["all"] = (),
    tools: Mapping[str, Sequence[ToolLike]] | None = None,
    agents: Mapping[str, Agent] | None = None,
    group_timeout: float | None = None,
    max_hops: int = 8,
    max_repeats: int = 2,
    num_ctx: int | None = None,
    token_counter: TokenCounter = count_tokens,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the compiled graph that answers ``{"messages": [("user", question)]}``.

    ``model`` is a chat model or a model's name on Ollama (``None``: the settings' model). ``groups`` are the
    working groups (``None``: the summit's six). ``router`` is a router's name or any object with ``route`` and
    ``aroute``. ``history_factory(agent_id, session_id)`` gives the chat message history in which a group (under
    its id) or the supervisor (under ``"supervisor"``) keeps what it said; the session is the thread.

    ``max_parallel`` groups at most speak at once (``None``: all). Answers of the groups in
    ``interrupt_before_release`` (or of ``"all"``) wait for a reviewer, see :func:`approval.reviewed`; this needs a
    checkpointer. ``tools`` maps groups' ids to LangChain tools or functions. ``agents`` maps groups' ids to
    objects that answer in the model's place: ``chat(question)`` gives text, and so does ``await achat(question)``
    where there is one; for one whose ``keep_history`` is true no history is kept here, as it keeps its own.

    ``group_timeout`` is in seconds for each answer, synthesis and summary (``None``: the model's own time-out
    alone). ``max_hops`` is the number of model calls a group may make for one question, ``max_repeats`` how often
    it may make the very same tool call. ``num_ctx`` is the context in tokens (``None``: what the model or its
    server says); a model on Ollama gets no more than it was trained for. ``token_counter`` counts the tokens of
    messages.

    The result holds ``messages`` (questions and final answers), ``decision``, ``reports`` and ``synthesis``, see
    :class:`SupervisorOutput`. Runs raise :class:`EmptyQuestionError`, :class:`ContextOverflowError`, and, where no
    group at all could answer, what kept them from it: a :class:`ModelError`, :class:`LoopBudgetError` or
    :class:`SupervisorError`. Resuming such a run (``invoke(None, config)``) asks the groups again.

    Raises:
        ConfigurationError: an argument can't be used.
        InvalidIdError, InvalidInputError: the groups can't be used.
        UnknownGroupError: tools, approval or an agent for a group that is not there.
    """
    ctx = make_context(
        model,
        groups=groups,
        router=router,
        history_factory=history_factory,
        max_parallel=max_parallel,
        held=interrupt_before_release,
        tools=tools,
        agents=agents,
        group_timeout=group_timeout,
        max_hops=max_hops,
        max_repeats=max_repeats,
        num_ctx=num_ctx,
        token_counter=token_counter,
    )
    return _graph(ctx).compile(checkpointer=checkpointer, name="ecowas_supervisor")


def make_context(
    model: BaseChatModel | str | None,
    *,
    groups: Sequence[TWG] | None,
    router: str | Router = "lexical",
    history_factory: HistoryFactory | None = None,
    max_parallel: int | None = None,
    held: Collection[str] | Literal["all"] = (),
    tools: Mapping[str, Sequence[ToolLike]] | None = None,
    agents: Mapping[str, Agent] | None = None,
    group_timeout: float | None = None,
    max_hops: int = 8,
    max_repeats: int = 2,
    num_ctx: int | None = None,
    token_counter: TokenCounter = count_tokens,
) -> Context:
    """Return what the nodes share, its arguments checked; they are :func:`build_supervisor`'s."""
    chosen = validate_groups(default_groups() if groups is None else groups, reserved=RESERVED_IDS)
    by_id = {group.id: group for group in chosen}
    for name, value in (
        ("max_parallel", max_parallel),
        ("max_hops", max_hops),
        ("max_repeats", max_repeats),
        ("num_ctx", num_ctx),
    ):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigurationError(f"{name}={value!r} can't be used. Give a whole number of at least 1.")
    if group_timeout is not None and group_timeout <= 0:
        raise ConfigurationError(f"group_timeout={group_timeout!r} can't be used. Give more than 0 seconds.")
    if isinstance(held, str) and held != "all":
        raise ConfigurationError(
            f"interrupt_before_release={held!r} can't be used. Give a list of groups' ids, or 'all'."
        )
    kept_back = frozenset(by_id) if held == "all" else frozenset(held)
    _known(kept_back, by_id, "interrupt_before_release")
    _known(tools or {}, by_id, "tools")
    _known(agents or {}, by_id, "agents")
    chat = chat_model(model)
    return Context(
        model=chat,
        groups=by_id,
        router=_router(router, chosen, chat),
        tools={group: _named(listed) for group, listed in (tools or {}).items()},
        agents=dict(agents or {}),
        history_factory=history_factory,
        held=kept_back,
        slots=Slots(max_parallel),
        group_timeout=group_timeout,
        max_hops=max_hops,
        max_repeats=max_repeats,
        counter=token_counter,
        num_ctx=num_ctx,
    )


def _graph(ctx: Context) -> StateGraph[Any, Any, Any, Any]:
    ids = tuple(ctx.groups)
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(
        SupervisorState, input_schema=SupervisorInput, output_schema=SupervisorOutput
    )

    def add(name: str, program: nodes.NodeProgram, *goes_to: str, title: str = "", **label: str) -> None:
        about = {"title": title} if title else None  # for pictures
        builder.add_node(name, as_node(name, program, label), destinations=goes_to, metadata=about)

    add(nodes.ROUTE, nodes.route(ctx), *ids, SUPERVISOR)
    add(SUPERVISOR, nodes.supervisor(ctx), nodes.RECORD)
    for group in ctx.groups.values():
        after = (nodes.RELEASE,) if group.id in ctx.held else (nodes.GATHER, nodes.RECORD)
        add(group.id, nodes.group(ctx, group), *after, title=group.name, twg=group.id)
    if ctx.held:
        add(nodes.RELEASE, nodes.release, nodes.GATHER, nodes.RECORD)
    add(nodes.GATHER, nodes.gather(ctx), nodes.SYNTHESISE, nodes.RECORD)
    add(nodes.SYNTHESISE, nodes.synthesise(ctx), nodes.RECORD)
    add(nodes.RECORD, nodes.record(ctx), nodes.SUMMARISE, "__end__")
    add(nodes.SUMMARISE, nodes.summarise(ctx), "__end__")
    builder.add_edge(START, nodes.ROUTE)
    return builder


def _router(router: str | Router, groups: Sequence[TWG], model: BaseChatModel) -> Router:
    if isinstance(router, str):
        return get_router(router, groups=groups, model=model)
    if not callable(getattr(router, "route", None)) or not callable(getattr(router, "aroute", None)):
        raise ConfigurationError(
            f"{router!r} is not a router. Pass a router's name, or an object with route and aroute."
        )
    return router


def _known(ids: Collection[str], groups: Mapping[str, TWG], argument: str) -> None:
    unknown = [group for group in ids if group not in groups]
    if unknown:
        raise UnknownGroupError(
            f"{argument} names {', '.join(map(repr, unknown))}; there are only: {', '.join(groups)}."
        )


def _named(tools: Sequence[ToolLike]) -> dict[str, BaseTool]:
    listed = [tool if isinstance(tool, BaseTool) else as_tool(tool) for tool in tools]
    by_name = {tool.name: tool for tool in listed}
    if len(by_name) < len(listed):
        raise InvalidInputError("Two tools of a group have the same name. Rename one.")
    return by_name


def as_node(
    name: str, program: Callable[[Any, RunnableConfig], Program[Any]], label: Mapping[str, str]
) -> RunnableLambda[Any, Any]:
    """Return a graph node that runs the program made for its input, in both ways of running a graph.

    ``label`` goes into the metadata of every call that the program makes.
    """

    def blocking(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label)
        return run(program(state, labelled), labelled)

    async def awaiting(state: Any, config: RunnableConfig) -> Any:
        labelled = _labelled(config, label)
        return await arun(program(state, labelled), labelled)

    return RunnableLambda(blocking, afunc=awaiting, name=f"{name}_program")


def _labelled(config: RunnableConfig, label: Mapping[str, str]) -> RunnableConfig:
    return merge_configs(config, {"metadata": dict(label)}) if label else config
