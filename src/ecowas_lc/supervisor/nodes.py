"""The graph's nodes as programs: each takes the state and gives an update, and where to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.types import Command, Send

from ecowas_lc import errors
from ecowas_lc.effects import Doing, Program
from ecowas_lc.errors import EcowasError, ModelError, SupervisorError, UnknownGroupError
from ecowas_lc.supervisor.answers import empty_answer, whole_text
from ecowas_lc.supervisor.approval import Draft, reviewed
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.group import report_of
from ecowas_lc.supervisor.histories import answer_id, append_once, read
from ecowas_lc.supervisor.language import language_of
from ecowas_lc.supervisor.model_calls import Ask, unheard
from ecowas_lc.supervisor.prompts import phrase, supervisor_prompt, with_summary
from ecowas_lc.supervisor.routing import RouteDecision
from ecowas_lc.supervisor.state import SUPERVISOR, Decision, Report, answer_in, asked_in, question_of
from ecowas_lc.supervisor.streamed_text import Say
from ecowas_lc.supervisor.summary import (
    conversation_of,
    outgrown,
    summarised_through,
    summary_of,
    summary_text,
)
from ecowas_lc.supervisor.synthesis import answered, missing_note, missing_views, synthesis_of, verbatim
from ecowas_lc.supervisor.trimming import exchanges, joined
from ecowas_lc.twg import TWG

ROUTE, SYNTHESISE, GATHER, RELEASE, RECORD, SUMMARISE = (
    "route",
    "synthesise",
    "gather",
    "release",
    "record",
    "summarise",
)
NODES = (ROUTE, SUPERVISOR, GATHER, RELEASE, SYNTHESISE, RECORD, SUMMARISE)

State = Mapping[str, Any]
NodeProgram = Callable[[Any, RunnableConfig], Program[Any]]


def route(ctx: Context) -> NodeProgram:
    """Return the node that finds the groups a question concerns, and begins the turn afresh."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        question = question_of(state)
        window = yield from ctx.window()
        ctx.prompt(window, "", [question])  # refused before any model is asked
        update: dict[str, Any] = {}
        if ctx.history_factory is not None and len(state["messages"]) == 1 and not state.get("earlier"):
            transcript = yield from read(ctx.history_factory, SUPERVISOR, config)
            told = [e for e in exchanges(transcript) if e[0].id != question.id]
            if told:
                update["earlier"] = {"messages": [message for exchange in told for message in exchange]}
        routed: RouteDecision = yield _routing(ctx, question.text)
        decision = _checked(routed, ctx.groups)
        chosen = decision["groups"]
        update.update(decision=decision, asking=chosen, reports={}, synthesis={})
        return Command(update=update, goto=chosen or [SUPERVISOR])

    return program


def supervisor(ctx: Context) -> NodeProgram:
    """Return the node in which the supervisor itself answers what concerns no group."""
    prompt = supervisor_prompt(tuple(ctx.groups.values()))

    def answering(state: State) -> Program[AIMessage]:
        window = yield from ctx.window()
        past = joined(conversation_of(state), [], summarised_through(state))
        system = with_summary(prompt, summary_text(state))
        model = ctx.speaker(window)
        messages = ctx.prompt(window, system, [question_of(state)], past)
        answer: AIMessage = yield Ask(model, messages, model)
        ctx.learn(messages, answer)
        text = yield from whole_text(answer)
        if not text:
            raise empty_answer("The supervisor", answer)
        return AIMessage(text, id=answer.id, name=SUPERVISOR)

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        final = yield ctx.limited(answering(state), "The supervisor")
        return Command(update={"messages": [final]}, goto=RECORD)

    return program


def group(ctx: Context, twg: TWG) -> NodeProgram:
    """Return the node in which one working group answers."""
    held = twg.id in ctx.held

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        question = question_of(state)
        own = yield from read(ctx.history_factory, twg.id, config)
        past = joined(conversation_of(state), exchanges(own), summarised_through(state))
        report = yield from report_of(ctx, twg, question, past, summary_text(state), quiet=held)
        alone = len(state["decision"]["groups"]) == 1
        if held:
            draft: Draft = {
                "group": twg.id,
                "name": twg.name,
                "question": question.text,
                "report": report,
                "alone": alone,
            }
            waiting: Report = {"status": "held", "text": ""}
            return Command(update={"reports": {twg.id: waiting}}, goto=Send(RELEASE, draft))
        goto = _after(report, alone=alone)
        if ctx.held.intersection(state["asking"]):
            goto = []  # those that are held go on when they are released
        return Command(update={"reports": {twg.id: report}}, goto=goto)

    return program


def release(draft: Draft, config: RunnableConfig) -> Program[Command[str]]:
    """Hold a group's answer until a reviewer has decided on it; asks no model, however often it is resumed."""
    yield from ()
    report = reviewed(draft)
    return Command(update={"reports": {draft["group"]: report}}, goto=_after(report, alone=draft["alone"]))


def gather(ctx: Context) -> NodeProgram:
    """Return the node that looks at what the groups said and decides how to go on."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        yield from ()
        reports = _ordered(state)
        if answers := answered(reports):
            return Command(goto=SYNTHESISE if len(answers) > 1 else RECORD)
        failed = {g: report for g, report in reports.items() if report["status"] == "failed"}
        if failed and not ctx.saw(failed.values()):
            return Command(update={"asking": list(failed)}, goto=list(failed))
        if len(failed) < len(reports):
            return Command(goto=RECORD)
        raise _total_failure(failed)

    return program


def synthesise(ctx: Context) -> NodeProgram:
    """Return the node that brings several groups' answers together."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        message, synthesis = yield from synthesis_of(ctx, question_of(state), _ordered(state))
        message.name = SUPERVISOR
        return Command(update={"messages": [message], "synthesis": synthesis}, goto=RECORD)

    return program


def record(ctx: Context) -> NodeProgram:
    """Return the node that passes a single answer on and writes every speaker's history."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        update: dict[str, Any] = {}
        question = asked_in(state)
        final = answer_in(state)
        if final is None:
            final = yield from _passed_on(ctx, state, update)
            update["messages"] = [final]
        if ctx.history_factory is not None:
            spoken = {**answered(_ordered(state)), SUPERVISOR: final.text}
            for speaker, text in spoken.items():
                if getattr(ctx.agents.get(speaker), "keep_history", False):
                    continue
                name = final.name if speaker == SUPERVISOR else speaker
                answer = AIMessage(text, id=answer_id(question.id, speaker), name=name)
                yield from append_once(ctx.history_factory, speaker, config, [question, answer])
        try:
            window = yield from ctx.window()
        except ModelError:  # an answer that a reviewer released needs no model server to be there
            return Command(update=update)
        told: list[BaseMessage] = [*state["messages"], *update.get("messages", [])]
        if outgrown({**state, "messages": told}, window, ctx.count):
            return Command(update=update, goto=SUMMARISE)
        return Command(update=update)

    return program


def summarise(ctx: Context) -> NodeProgram:
    """Return the node that works what no longer fits into the running summary."""

    def program(state: State, config: RunnableConfig) -> Program[dict[str, Any]]:
        summary = yield from summary_of(ctx, state)
        return {"summary": summary} if summary is not None else {}

    return program


def _passed_on(ctx: Context, state: State, update: dict[str, Any]) -> Program[AIMessage]:
    """Return the final answer where only one group has one, or where none was released."""
    reports = _ordered(state)
    question = asked_in(state)
    language = language_of(question.text)
    answers = answered(reports)
    missing = missing_views(reports, language)
    note = missing_note(missing, ctx.groups, language)
    if not answers:
        withheld = [group for group, report in reports.items() if report["status"] == "rejected"]
        text = "\n".join(phrase("withheld", language, name=ctx.groups[group].name) for group in withheld)
        others = missing_note(
            {group: why for group, why in missing.items() if group not in withheld}, ctx.groups, language
        )
        return AIMessage("\n\n".join(filter(None, (text, others))), id=str(uuid4()), name=SUPERVISOR)
    [(speaker, text)] = answers.items()
    message_id = reports[speaker].get("message_id") or str(uuid4())
    if note:
        if "released" not in reports[speaker]:  # its tokens have been streamed already, the note has not
            yield Say(f"\n\n{note}", message_id)
        text = f"{text}\n\n{note}"
    if len(reports) > 1:
        update["synthesis"] = verbatim(answers, missing, text)
    return AIMessage(text, id=message_id, name=speaker)


def _after(report: Report, *, alone: bool) -> list[str]:
    return [RECORD] if alone and report["status"] in ("answered", "rejected") else [GATHER]


def _ordered(state: State) -> dict[str, Report]:
    """Return the reports in the order in which the groups were chosen."""
    reports = state.get("reports") or {}
    chosen = (state.get("decision") or {}).get("groups") or []
    return {group: reports[group] for group in chosen if group in reports}


def _routing(ctx: Context, question: str) -> Doing:
    # as a runnable, so that what a router asks of a model inherits the tag that keeps it out of the stream
    router: RunnableLambda[str, RouteDecision] = RunnableLambda(
        ctx.router.route, afunc=ctx.router.aroute, name="router"
    )
    return Doing(
        lambda config: router.invoke(question, unheard(config)),
        lambda config: router.ainvoke(question, unheard(config)),
    )


def _checked(decision: RouteDecision, groups: Mapping[str, TWG]) -> Decision:
    chosen = list(dict.fromkeys(decision.groups))
    unknown = [group for group in chosen if group not in groups]
    if unknown:
        raise UnknownGroupError(
            f"The router chose {', '.join(map(repr, unknown))}, which this graph does not have. "
            f"It has: {', '.join(groups)}."
        )
    return {"groups": chosen, "source": str(decision.source), "reason": str(decision.reason)}


def _total_failure(failed: Mapping[str, Report]) -> EcowasError:
    """Return the one error that stands for all: of their common class, where they have one of ours."""
    reasons = {group: report.get("reason", "") for group, report in failed.items()}
    names = {report.get("error", "") for report in failed.values()}
    found = getattr(errors, names.pop(), None) if len(names) == 1 else None
    kind = found if isinstance(found, type) and issubclass(found, EcowasError) else SupervisorError
    if len(set(reasons.values())) == 1:
        return kind(next(iter(reasons.values())))
    told = " ".join(f"{group}: {reason}" for group, reason in reasons.items())
    return kind(f"None of the working groups could answer. {told}")
