"""Assembling the supervisor graph: route, ask the groups in parallel, combine their answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as as_tool
from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.stream import CustomTransformer
from langgraph.types import Checkpointer

from ecowas_lc import _telemetry
from ecowas_lc.documents.answers import GroundingMode
from ecowas_lc.effects import Watch, as_node
from ecowas_lc.errors import ConfigurationError, InvalidInputError, UnknownGroupError
from ecowas_lc.llm import chat_model, held_to
from ecowas_lc.llm.tokens import TokenCounter, count_tokens
from ecowas_lc.settings import usable_settings
from ecowas_lc.supervisor import nodes
from ecowas_lc.supervisor.concurrency import Slots
from ecowas_lc.supervisor.context import Context, OnWaiting
from ecowas_lc.supervisor.double_texting import OnBusy
from ecowas_lc.supervisor.grounding import Readable, grounding_of, unread_documents
from ecowas_lc.supervisor.history_sync import OpenHistory
from ecowas_lc.supervisor.model_calls import Agent
from ecowas_lc.supervisor.routing import Router, get_router, with_conversation
from ecowas_lc.supervisor.state import SUPERVISOR, SupervisorInput, SupervisorOutput, SupervisorState
from ecowas_lc.supervisor.supervisor_graph import SupervisorGraph
from ecowas_lc.supervisor.tool_graph import check_tools, tool_graph
from ecowas_lc.supervisor.watching import ROUTING, SUMMARY, SYNTHESIS, answering
from ecowas_lc.twg import TWG, default_groups, validate_groups

ToolLike = BaseTool | Callable[..., Any]
RESERVED_IDS = frozenset({*nodes.NODES, *SupervisorState.__annotations__})
"""Ids that no group may have: the graph's own nodes and state keys."""


def build_supervisor(
    model: BaseChatModel | str | None = None,
    *,
    groups: Sequence[TWG] | None = None,
    router: str | Router = "hybrid",
    checkpointer: Checkpointer = None,
    history_factory: OpenHistory | None = None,
    max_parallel: int | None = None,
    interrupt_before_release: Collection[str] | Literal["all"] = (),
    tools: Mapping[str, Sequence[ToolLike]] | None = None,
    agents: Mapping[str, Agent | Pregel[Any, Any, Any, Any]] | None = None,
    group_timeout: float | None = None,
    max_hops: int = 8,
    max_repeats: int = 2,
    num_ctx: int | None = None,
    token_counter: TokenCounter = count_tokens,
    on_waiting: OnWaiting = "refuse",
    on_busy: OnBusy | None = None,
    busy_wait_seconds: float = 60.0,
    store: BaseStore | None = None,
    documents: Readable | Mapping[str, Readable] | None = None,
    grounding: GroundingMode = "strict",
) -> SupervisorGraph:
    """Build the compiled graph that answers ``{"messages": [("user", question)]}``.

    A run returns :class:`SupervisorOutput`: ``messages`` (questions and final answers), ``decision``,
    ``reports`` and ``synthesis``. It raises :class:`EmptyQuestionError`, :class:`ContextOverflowError`, and, if
    no group could answer, the cause: a :class:`ModelError`, :class:`LoopBudgetError` or
    :class:`SupervisorError`. Resuming such a run (``invoke(None, config)``) asks the groups again.

    Args:
        model: A chat model, or a model's name on Ollama; ``None`` means the settings' model.
        groups: The working groups; ``None`` means the summit's six.
        router: A router's name, or an object with ``route`` and ``aroute``.
        checkpointer: The storage of threads, such as a :class:`~ecowas_lc.RedisSaver`.
        history_factory: ``history_factory(agent_id, session_id)`` returns the chat message history in which a
            group (under its id) or the supervisor (under ``"supervisor"``) keeps what it said; the session is
            the thread.
        max_parallel: Maximum number of groups that answer at the same time; ``None`` means no limit, or on
            Ollama the number of requests that its server answers at once, which is detected.
        interrupt_before_release: Ids of groups whose answers wait for a reviewer, or ``"all"``; requires a
            checkpointer. See :func:`~ecowas_lc.reviewed`.
        tools: LangChain tools or functions by group id.
        agents: By group id, an agent that answers instead of the model. Either a compiled graph with ``messages``
            in its state, which runs as a subgraph and remembers what the group said in the thread; or an object
            whose ``chat(question)`` (and, if it has one, ``await achat(question)``) returns text. If the object's
            ``keep_history`` is true, this graph keeps no history for it.
        group_timeout: Seconds for each answer, synthesis and summary; ``None`` means only the model's own
            timeout. Waiting for a turn at Ollama does not count.
        max_hops: Maximum number of model calls that a group makes for one question.
        max_repeats: Maximum number of times that a group makes the same tool call.
        num_ctx: Context in tokens; ``None`` means what the model or the settings say. A model on Ollama gets no
            more than it was trained for.
        token_counter: Counts the tokens of messages.
        on_waiting: What happens to a new question while an answer waits for a reviewer: ``"refuse"`` raises
            :class:`DecisionPendingError`, ``"drop"`` discards the answer.
        on_busy: What happens to a run while another run of its thread is in progress, in any process that uses the
            same :class:`~ecowas_lc.RedisSaver` storage: ``"refuse"`` raises :class:`ThreadBusyError`, ``"queue"``
            waits first, ``None`` lets both run.
        busy_wait_seconds: Maximum time that ``"queue"`` waits, in seconds.
        store: LangGraph's long-term memory, for tools that ask for it.
        documents: :class:`~ecowas_lc.Documents` or a LangChain retriever, for all groups or by group id.
            Answers are then based on them. A group's own documents, ``TWG(documents=…)``, take precedence over
            those for all groups. A group with tools or an agent cannot have documents.
        grounding: What happens to a sentence that no passage supports: ``"strict"`` leaves it out, ``"flag"``
            marks it, ``"off"`` keeps it.

    Returns:
        The compiled graph.

    Raises:
        ConfigurationError: An argument is not usable.
        InvalidIdError: A group's id is not usable.
        InvalidInputError: The groups are not usable.
        UnknownGroupError: Tools, approval, documents or an agent are given for a group that does not exist.

    Example:
        >>> graph = build_supervisor(checkpointer=RedisSaver.from_settings())
        >>> result = graph.invoke({"messages": [("user", "Which lines are planned?")]}, config)
        >>> result["messages"][-1].text
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
        on_waiting=on_waiting,
        has_store=None if store is None else True,
        documents=documents,
        grounding=grounding,
    )
    if on_busy not in (None, "refuse", "queue"):
        raise ConfigurationError(f"on_busy={on_busy!r} can't be used. Choose 'refuse', 'queue' or None.")
    if isinstance(busy_wait_seconds, bool) or not busy_wait_seconds > 0:
        raise ConfigurationError(f"busy_wait_seconds={busy_wait_seconds!r} can't be used. Pass more than 0.")
    ctx.on_busy, ctx.busy_wait_seconds = on_busy, busy_wait_seconds
    compiled = _graph(ctx).compile(
        checkpointer=checkpointer, store=store, name="ecowas_supervisor", transformers=[CustomTransformer]
    )
    return SupervisorGraph(supervisor=ctx, **compiled.__dict__)


def make_context(
    model: BaseChatModel | str | None,
    *,
    groups: Sequence[TWG] | None,
    router: str | Router = "lexical",
    history_factory: OpenHistory | None = None,
    max_parallel: int | None = None,
    held: Collection[str] | Literal["all"] = (),
    tools: Mapping[str, Sequence[ToolLike]] | None = None,
    agents: Mapping[str, Agent | Pregel[Any, Any, Any, Any]] | None = None,
    group_timeout: float | None = None,
    max_hops: int = 8,
    max_repeats: int = 2,
    num_ctx: int | None = None,
    token_counter: TokenCounter = count_tokens,
    on_waiting: OnWaiting = "refuse",
    has_store: bool | None = None,
    documents: Readable | Mapping[str, Readable] | None = None,
    grounding: GroundingMode = "strict",
) -> Context:
    """Check the arguments of :func:`build_supervisor` and return what the nodes share."""
    chosen = validate_groups(default_groups() if groups is None else groups, reserved=RESERVED_IDS)
    by_id = {group.id: group for group in chosen}
    for name, value in (
        ("max_parallel", max_parallel),
        ("max_hops", max_hops),
        ("max_repeats", max_repeats),
        ("num_ctx", num_ctx),
    ):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigurationError(f"{name}={value!r} can't be used. Pass a whole number of at least 1.")
    if group_timeout is not None and group_timeout <= 0:
        raise ConfigurationError(f"group_timeout={group_timeout!r} can't be used. Pass more than 0 seconds.")
    if isinstance(held, str) and held != "all":
        raise ConfigurationError(
            f"interrupt_before_release={held!r} can't be used. Pass a list of groups' ids, or 'all'."
        )
    kept_back = frozenset(by_id) if held == "all" else frozenset(held)
    _known(kept_back, by_id, "interrupt_before_release")
    _known(tools or {}, by_id, "tools")
    _known(agents or {}, by_id, "agents")
    if on_waiting not in ("refuse", "drop"):
        raise ConfigurationError(f"on_waiting={on_waiting!r} can't be used. Choose 'refuse' or 'drop'.")
    _telemetry.keep_content(wanted=usable_settings().telemetry_content)
    chat = held_to(chat_model(model), num_ctx)
    standing = dict(agents or {})
    named = {group: _named(listed) for group, listed in (tools or {}).items() if listed}
    for group, listed in named.items():
        check_tools(group, listed, has_store=has_store)
    ctx = Context(
        model=chat,
        groups=by_id,
        router=with_conversation(_router(router, chosen, chat)),
        tools=named,
        history_factory=history_factory,
        held=kept_back,
        slots=Slots(max_parallel),
        group_timeout=group_timeout,
        max_hops=max_hops,
        max_repeats=max_repeats,
        counter=token_counter,
        num_ctx=num_ctx,
        agents={group: agent for group, agent in standing.items() if not isinstance(agent, Pregel)},
        graphs={
            group: _standing_graph(group, agent) for group, agent in standing.items() if isinstance(agent, Pregel)
        },
        on_waiting=on_waiting,
        grounding=grounding_of(chosen, documents, grounding),
    )
    if ctx.grounding is not None:
        _known(ctx.grounding.groups, by_id, "documents")
        for group in filter(ctx.grounding.serves, by_id):
            if group in standing:
                raise unread_documents(group, "is answered by an agent or a graph")
            if group in named:
                raise unread_documents(group, "has tools")
    for group in named.keys() - standing.keys():
        ctx.tool_graphs[group] = tool_graph(ctx, by_id[group])
    return ctx


def _standing_graph(group: str, graph: Pregel[Any, Any, Any, Any]) -> Pregel[Any, Any, Any, Any]:
    """Return a graph in the form in which it stands in for a group: stored with the supervisor's.

    Raises:
        ConfigurationError: The graph cannot stand in for a group.
    """
    if graph.checkpointer is True:
        raise ConfigurationError(
            f"The graph of {group} is compiled with checkpointer=True: its memory would not follow the forks "
            "of a thread. Compile it without a checkpointer: it gets its memory from the thread."
        )
    if "messages" not in graph.channels:
        raise ConfigurationError(
            f"The graph of {group} has no key 'messages' in its state. It gets the question there, and its last "
            "message is the answer."
        )
    return graph.copy({"checkpointer": None}) if graph.checkpointer else graph


def _graph(ctx: Context) -> StateGraph[SupervisorState, None, SupervisorInput, SupervisorOutput]:
    ids = tuple(ctx.groups)
    builder = StateGraph(SupervisorState, input_schema=SupervisorInput, output_schema=SupervisorOutput)

    def add(
        name: str,
        program: nodes.NodeProgram,
        *goes_to: str,
        about: str,  # this and the title are for pictures
        title: str = "",
        inner: Any = None,
        watch: Watch | None = None,
        **label: str,
    ) -> None:
        node = as_node(name, program, label, inner, watch, about)
        builder.add_node(name, node, destinations=goes_to, metadata={"title": title} if title else None)

    finds = "Finds the groups that the question concerns."
    add(nodes.ROUTE, nodes.route(ctx), *ids, SUPERVISOR, about=finds, watch=ROUTING)
    after_supervisor = (nodes.RECORD, *([nodes.RELEASE] if ctx.held else []))
    own = "Answers questions that concern no group."
    add(SUPERVISOR, nodes.supervisor(ctx), *after_supervisor, about=own, watch=answering(SUPERVISOR))
    for group in ctx.groups.values():
        after = (nodes.RELEASE,) if group.id in ctx.held else (nodes.GATHER, nodes.RECORD)
        inner = ctx.graphs.get(group.id) or ctx.tool_graphs.get(group.id)
        add(
            group.id,
            nodes.group(ctx, group),
            *after,
            about=group.description or f"{group.name} answers.",
            title=group.name,
            inner=inner,
            watch=answering(group.id),
            twg=group.id,
        )
    if ctx.held:
        waits = "Holds an answer until a reviewer has decided on it."
        add(nodes.RELEASE, nodes.release(ctx), nodes.GATHER, nodes.RECORD, about=waits)
    add(nodes.GATHER, nodes.gather(ctx), nodes.SYNTHESISE, nodes.RECORD, about="Waits for all groups asked.")
    brings = "Combines several answers."
    add(nodes.SYNTHESISE, nodes.synthesise(ctx), nodes.RECORD, about=brings, watch=SYNTHESIS)
    records = "Returns the answer and updates the histories."
    add(nodes.RECORD, nodes.record(ctx), nodes.SUMMARISE, "__end__", about=records)
    sums_up = "Adds messages that no longer fit the model's context to a summary."
    add(nodes.SUMMARISE, nodes.summarise(ctx), "__end__", about=sums_up, watch=SUMMARY)
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
            f"{argument} names {', '.join(map(repr, unknown))}; available: {', '.join(groups)}."
        )


def _named(tools: Sequence[ToolLike]) -> dict[str, BaseTool]:
    listed = [tool if isinstance(tool, BaseTool) else as_tool(tool) for tool in tools]
    by_name = {tool.name: tool for tool in listed}
    if len(by_name) < len(listed):
        raise InvalidInputError("Two tools of a group have the same name. Rename one.")
    return by_name
