"""The working groups as tools, for agents other than this package's own graph."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import Field

from ecowas_lc.effects import arun, run
from ecowas_lc.errors import EmptyQuestionError, InvalidInputError
from ecowas_lc.llm.tokens import TokenCounter, count_tokens
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.graph import ToolLike, make_context
from ecowas_lc.supervisor.group_node import GroupOutcome, GroupQuestion, outcome_of
from ecowas_lc.twg import TWG

QuestionArgument = Annotated[str, Field(description="The question, with all that is needed to understand it.")]


def twg_tools(
    model: BaseChatModel | str | None = None,
    *,
    groups: Sequence[TWG] | None = None,
    tools: Mapping[str, Sequence[ToolLike]] | None = None,
    max_parallel: int | None = None,
    group_timeout: float | None = None,
    max_hops: int = 8,
    max_repeats: int = 2,
    num_ctx: int | None = None,
    token_counter: TokenCounter = count_tokens,
) -> list[BaseTool]:
    """Return each working group as a LangChain tool, for ``create_agent`` and similar agents.

    The tool ``ask_energy`` takes a ``question`` and returns the group's answer; tokens that are streamed on the
    way carry ``metadata["twg"]``. A group that cannot answer returns a tool error that says why.

    Args:
        model: A chat model, or a model's name on Ollama; ``None`` means the settings' model.
        groups: The working groups; ``None`` means the summit's six.
        tools: LangChain tools or functions by group id.
        max_parallel: Maximum number of groups that answer at the same time; ``None`` means no limit.
        group_timeout: Seconds for each answer; ``None`` means only the model's own timeout.
        max_hops: Maximum number of model calls that a group makes for one question.
        max_repeats: Maximum number of times that a group makes the same tool call.
        num_ctx: Context in tokens; ``None`` means what the model or the settings say.
        token_counter: Counts the tokens of messages.

    Returns:
        One tool for each group.

    Raises:
        ConfigurationError: An argument is not usable.
        InvalidIdError, InvalidInputError: The groups are not usable together.
        UnknownGroupError: Tools are given for a group that does not exist.
    """
    ctx = make_context(
        model,
        groups=groups,
        tools=tools,
        max_parallel=max_parallel,
        group_timeout=group_timeout,
        max_hops=max_hops,
        max_repeats=max_repeats,
        num_ctx=num_ctx,
        token_counter=token_counter,
    )
    made = [_tool(ctx, group) for group in ctx.groups.values()]
    if len({tool.name for tool in made}) < len(made):
        raise InvalidInputError(
            "Two groups' ids give the same tool name. Use letters, digits, '_' and '-' in ids."
        )
    return made


def _tool(ctx: Context, group: TWG) -> BaseTool:
    def ask(question: QuestionArgument, config: RunnableConfig) -> str:
        return _text_of_answer(run(outcome_of(ctx, group, _asked(question)), _labelled(config, group)))

    async def aask(question: QuestionArgument, config: RunnableConfig) -> str:
        return _text_of_answer(await arun(outcome_of(ctx, group, _asked(question)), _labelled(config, group)))

    return StructuredTool.from_function(
        func=ask,
        coroutine=aask,
        name=f"ask_{re.sub(r'[^a-zA-Z0-9_-]', '_', group.id)}",
        description=f"Ask the working group {group.name}. {group.description}".strip(),
        handle_tool_error=True,
    )


def _asked(question: str) -> GroupQuestion:
    if not question.strip():
        raise ToolException(str(EmptyQuestionError("The question is empty. Ask something.")))
    return GroupQuestion(HumanMessage(question))


def _labelled(config: RunnableConfig, group: TWG) -> RunnableConfig:
    return merge_configs(config, {"metadata": {"twg": group.id}})


def _text_of_answer(outcome: GroupOutcome) -> str:
    report = outcome.report
    if report["status"] != "answered":
        raise ToolException(report.get("reason") or "The group could not answer.")
    return report["text"]
