"""The graph's nodes as programs: each takes the state and returns an update and the next nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.types import Command, Send

from ecowas_lc import errors
from ecowas_lc._language import language_of
from ecowas_lc.documents.answers import courtesy_in
from ecowas_lc.documents.follow_up import completed_questions
from ecowas_lc.documents.question import is_courtesy
from ecowas_lc.effects import Doing, Program
from ecowas_lc.errors import EcowasError, ModelError, SupervisorError, UnknownGroupError
from ecowas_lc.llm.answer_checks import empty_answer
from ecowas_lc.supervisor.approval import Draft, reviewed
from ecowas_lc.supervisor.context import Context
from ecowas_lc.supervisor.grounding import Readers, asks_for_facts, cited_message, evidence_for, grounded_report
from ecowas_lc.supervisor.group_node import GroupOutcome, GroupQuestion, outcome_of
from ecowas_lc.supervisor.history_sync import take_in_groups, take_in_transcript, taken_in, written
from ecowas_lc.supervisor.model_calls import Ask, unheard
from ecowas_lc.supervisor.prompts import phrase, supervisor_prompt, with_summary
from ecowas_lc.supervisor.routing import PastTurn, RouteDecision
from ecowas_lc.supervisor.state import (
    SUPERVISOR,
    Decision,
    Dropped,
    Report,
    answer_in,
    asked_in,
    groups_of,
    question_of,
)
from ecowas_lc.supervisor.streaming import Say, teller, whole_text
from ecowas_lc.supervisor.summary import (
    conversation_of,
    outgrown,
    summarised_through,
    summary_of,
    summary_text,
)
from ecowas_lc.supervisor.synthesis import answered, gathered, missing_note, missing_views, synthesis_of, verbatim
from ecowas_lc.supervisor.trimming import exchanges, own_part, remembered
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

RUN, GIVEN_UP = "__ecowas_run", "__ecowas_given_up"
ALLOWED = "ecowas_allowed_groups"
"""The key of a run's config that holds the groups that its user may ask."""
"""Config keys for the name of a node's run, and for the drafts that the run's question replaces."""

State = Mapping[str, Any]
_HELD: Report = {"status": "held", "text": ""}
_MOST_DROPPED = 20
NodeProgram = Callable[[Any, RunnableConfig], Program[Any]]


def route(ctx: Context) -> NodeProgram:
    """Return the node that starts the turn and finds the groups that the question concerns."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        question = question_of(state)
        window = yield from ctx.window()
        ctx.prompt(window, "", [question])  # rejects a question that does not fit before any model is asked
        update: dict[str, Any] = {}
        if ctx.history_factory is not None:
            yield from take_in_transcript(ctx.history_factory, list(ctx.groups), state, config, update)
        if (state.get("summary") or {}).get("through") and not summarised_through(state):
            update["summary"] = {"text": "", "through": ""}  # summarised messages were changed
        seen = {**state, **update}
        routed: RouteDecision = yield _routing(ctx, question.text, past_turns(ctx, seen))
        decision = _checked(routed, ctx.groups)
        if ctx.grounding is not None and routed.taken_over is not None:
            decision["follows"] = routed.taken_over.turn
        chosen = decision["groups"]
        if ctx.history_factory is not None:
            yield from take_in_groups(ctx.history_factory, _keeping_here(ctx, chosen), seen, config, update)
        if given_up := _given_up(state, config):
            update["dropped"] = [*(state.get("dropped") or []), *given_up][-_MOST_DROPPED:]
        update.update(decision=decision, asking=chosen, reports={}, attempts={}, synthesis={})
        return Command(update=update, goto=chosen or [SUPERVISOR])

    return program


def supervisor(ctx: Context) -> NodeProgram:
    """Return the node in which the supervisor answers what concerns no group.

    If answers of groups are held for review, the supervisor's own answers on their subjects are held as well.
    """
    prompt = supervisor_prompt(tuple(ctx.groups.values()))
    quiet = bool(ctx.held)

    def answering(state: State, config: RunnableConfig, reports: dict[str, Report]) -> Program[AIMessage]:
        about: dict[str, Any] = {"groups": []}
        if ctx.grounding is not None and ctx.grounding.serves(None):
            question = question_of(state)
            if not is_courtesy(question.text):
                in_full = _in_full(state)
                readers = readers_of(config)
                evidence, _, read = yield from evidence_for(ctx.grounding, None, in_full, readers)
                if evidence or asks_for_facts(read):
                    report = yield from grounded_report(
                        ctx, ctx.grounding, None, prompt, question, quiet=quiet, in_full=in_full, readers=readers
                    )
                    reports[SUPERVISOR] = report
                    return cited_message(
                        report, report["text"], id=report["message_id"], name=SUPERVISOR, response_metadata=about
                    )
            if ctx.grounding.mode == "strict":  # a model's own words could claim something
                said = AIMessage(
                    courtesy_in(language_of(question.text)),
                    id=str(uuid4()),
                    name=SUPERVISOR,
                    response_metadata=about,
                )
                if not quiet:
                    yield Say(said.text, str(said.id))
                return said
        window = yield from ctx.window()
        past = remembered(conversation_of(state), summarised_through(state))
        system = with_summary(prompt, summary_text(state))
        model = ctx.speaker(window)
        messages = ctx.prompt(window, system, [question_of(state)], past)
        answer: AIMessage = yield Ask(model, messages, model, quiet)
        ctx.learn(messages, answer)
        text = yield from whole_text(answer, quiet=quiet)
        if not text:
            raise empty_answer("The supervisor", answer)
        return AIMessage(text, id=answer.id, name=SUPERVISOR, response_metadata=about)

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        reports: dict[str, Report] = {}
        final: AIMessage = yield ctx.limited(answering(state, config, reports), "The supervisor")
        if quiet:
            on: RouteDecision = yield _routing(ctx, final.text, ())
            if held := [group for group in on.groups if group in ctx.held]:
                report: Report = {"status": "answered", "text": final.text, "message_id": str(final.id)}
                draft = _draft(SUPERVISOR, "Supervisor", state, report, concerns=held)
                return Command(update={"reports": {SUPERVISOR: _HELD}}, goto=Send(RELEASE, draft))
            yield Say(final.text, str(final.id))
        return Command(update={"messages": [final], "reports": reports}, goto=RECORD)

    return program


def group(ctx: Context, twg: TWG) -> NodeProgram:
    """Return the node in which one working group answers."""
    held = twg.id in ctx.held

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        conversation = conversation_of(state)
        is_alone = len(state["decision"]["groups"]) == 1
        alone = exchanges((state.get("earlier") or {}).get("groups", {}).get(twg.id, ()))
        outcome: GroupOutcome = yield from outcome_of(
            ctx,
            twg,
            GroupQuestion(
                question=question_of(state),
                past=[*alone, *remembered(conversation, summarised_through(state), twg.id)],
                own=[*alone, *own_part(conversation, twg.id)],
                summary=summary_text(state),
                quiet=held,
                so_far=(state.get("attempts") or {}).get(twg.id) or (),
                speaks_as=_place_of(config, twg),
                run=run_of(config),
                in_full=_in_full(state) if ctx.grounding is not None else "",
                readers=readers_of(config, ctx.held - {twg.id}) if is_alone else None,
            ),
        )
        update: dict[str, Any] = {}
        if outcome.so_far:
            update["attempts"] = {twg.id: outcome.so_far}
        if held:
            draft = _draft(twg.id, twg.name, state, outcome.report)
            return Command(update={**update, "reports": {twg.id: _HELD}}, goto=Send(RELEASE, draft))
        goto = _after(outcome.report, alone=is_alone)
        if ctx.held.intersection(state["asking"]):
            goto = []  # held groups continue after their release
        return Command(update={**update, "reports": {twg.id: outcome.report}}, goto=goto)

    return program


def release(ctx: Context) -> NodeProgram:
    """Return the node that holds an answer until a reviewer decides; it asks no model."""

    def program(draft: Draft, config: RunnableConfig) -> Program[Command[str]]:
        yield from ()
        report = draft["report"]
        if report["status"] == "answered":
            told = {"type": "waiting", "group": draft["group"], "draft": report.get("message_id", "")}
            teller()(told)
        report = reviewed(draft)
        if draft["group"] != SUPERVISOR:
            return Command(update={"reports": {draft["group"]: report}}, goto=_after(report, alone=draft["alone"]))
        text = report["text"]
        if report["status"] == "rejected":
            text = phrase("withheld", language_of(draft["question"]), name=draft["name"])
        message_id = report.get("message_id") or str(uuid4())
        final = AIMessage(text, id=message_id, name=SUPERVISOR, response_metadata={"groups": []})
        return Command(update={"messages": [final], "reports": {SUPERVISOR: report}}, goto=RECORD)

    return program


def gather(ctx: Context) -> NodeProgram:
    """Return the node that checks the groups' answers and decides what runs next."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        yield from ()
        reports = _ordered(state)
        if answers := answered(reports):
            return Command(goto=SYNTHESISE if len(answers) > 1 else RECORD)
        failed = {g: report for g, report in reports.items() if report["status"] == "failed"}
        here = run_of(config)
        if failed and all(report.get("attempt") != here for report in failed.values()):
            return Command(update={"asking": list(failed)}, goto=list(failed))  # a resumed run
        if len(failed) < len(reports):
            return Command(goto=RECORD)
        raise _total_failure(failed)

    return program


def synthesise(ctx: Context) -> NodeProgram:
    """Return the node that combines several groups' answers."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        if ctx.grounding is not None and ctx.grounding.mode == "strict":
            made = yield from gathered(ctx, question_of(state), _ordered(state))
        else:
            made = yield from synthesis_of(ctx, question_of(state), _ordered(state))
        message, synthesis = made
        message.name = SUPERVISOR
        message.response_metadata = _told_of(state, answered(_ordered(state)))
        return Command(update={"messages": [message], "synthesis": synthesis}, goto=RECORD)

    return program


def record(ctx: Context) -> NodeProgram:
    """Return the node that passes a single answer on and updates every speaker's history to match the thread."""

    def program(state: State, config: RunnableConfig) -> Program[Command[str]]:
        update: dict[str, Any] = {}
        messages: list[BaseMessage] = list(state["messages"])
        if answer_in(state) is None:
            final = yield from _passed_on(ctx, state, update)
            update["messages"] = [final]
            messages.append(final)
        teller()({"type": "final", "message_id": messages[-1].id, "speaker": messages[-1].name})
        if ctx.history_factory is not None:
            begin = messages.index(asked_in(state))
            update["synced"] = yield from written(
                ctx.history_factory,
                speakers_of(ctx),
                config,
                messages[:begin],
                messages[begin:],
                state.get("synced") or "",
                taken_in(state),
            )
        try:
            window = yield from ctx.window()
        except ModelError:  # an answer that a reviewer released does not need the model server
            return Command(update=update)
        if outgrown({**state, "messages": messages}, window, ctx.count):
            return Command(update=update, goto=SUMMARISE)
        return Command(update=update)

    return program


def summarise(ctx: Context) -> NodeProgram:
    """Return the node that adds what no longer fits a prompt to the running summary."""

    def program(state: State, config: RunnableConfig) -> Program[dict[str, Any]]:
        summary = yield from summary_of(ctx, state)
        return {"summary": summary} if summary is not None else {}

    return program


def _passed_on(ctx: Context, state: State, update: dict[str, Any]) -> Program[AIMessage]:
    """Return the final answer if only one group answered, or if none was released."""
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
        told = "\n\n".join(filter(None, (text, others)))
        return AIMessage(told, id=str(uuid4()), name=SUPERVISOR, response_metadata=_told_of(state, {}))
    [(speaker, text)] = answers.items()
    report = reports[speaker]
    metadata = _told_of(state, answers if note else {})
    message_id = reports[speaker].get("message_id") or str(uuid4())
    if note:
        if "released" not in reports[speaker]:  # its tokens are streamed already, the note is not
            yield Say(f"\n\n{note}", message_id)
        text = f"{text}\n\n{note}"
    if len(reports) > 1:
        update["synthesis"] = verbatim(answers, missing, text)
    return cited_message(report, text, id=message_id, name=speaker, response_metadata=metadata)


def speakers_of(ctx: Context) -> list[str]:
    """Return the speakers whose histories the graph writes: the supervisor and groups that keep none."""
    return [SUPERVISOR, *_keeping_here(ctx, ctx.groups)]


def past_turns(ctx: Context, state: State) -> list[PastTurn]:
    """Return the conversation in the form that routers receive: each question with the groups that were asked."""
    return [PastTurn(exchange[0].text, groups_of(exchange[-1], ctx.groups)) for exchange in conversation_of(state)]


def _in_full(state: State) -> str:
    """Return the complete question, with what it leaves out taken from the turn that it continues."""
    past = [exchange[0].text for exchange in conversation_of(state)]
    follows = state["decision"].get("follows", len(past) - 1)
    return completed_questions([*past[: follows + 1], question_of(state).text])[-1]


def run_of(config: RunnableConfig) -> str:
    """Return the name of the run; a run that resumes it does not repeat an error that it already met."""
    return str(config.get("configurable", {}).get(RUN, ""))


def readers_of(config: RunnableConfig, withheld: frozenset[str] = frozenset()) -> Readers:
    """Return whose documents an answer may use in addition to its group's own, for the user of a run."""
    allowed = config.get("configurable", {}).get(ALLOWED)
    return Readers(None if allowed is None else frozenset(allowed), withheld)


def _keeping_here(ctx: Context, groups: Iterable[str]) -> list[str]:
    return [one for one in groups if not getattr(ctx.agents.get(one), "keep_history", False)]


def _told_of(state: State, answers: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata of a final answer: the groups that were asked, and each group's own answer."""
    told: dict[str, Any] = {"groups": list(state["decision"]["groups"])}
    return {**told, "answers": dict(answers)} if answers else told


def _draft(group: str, name: str, state: State, report: Report, concerns: Sequence[str] = ()) -> Draft:
    return {
        "group": group,
        "name": name,
        "question": question_of(state).text,
        "report": report,
        "alone": len(state["decision"]["groups"]) == 1,
        "concerns": list(concerns),
    }


def _given_up(state: State, config: RunnableConfig) -> list[Dropped]:
    """Return what was waiting for a person and is dropped because of this question."""
    if (told := config.get("configurable", {}).get(GIVEN_UP)) is not None:
        return list(told)
    messages = state["messages"]
    if len(messages) < 2 or isinstance(messages[-2], AIMessage) or not state.get("decision"):
        return []
    reports = state.get("reports") or {}
    undecided = [g for g in state["decision"]["groups"] if reports.get(g, _HELD)["status"] == "held"]
    return [{"draft": "", "group": g, "question": messages[-1].text[:200]} for g in undecided]


def _place_of(config: RunnableConfig, twg: TWG) -> dict[str, Any]:
    """Return this node's metadata, which identifies its group at any depth of model calls."""
    metadata = config.get("metadata") or {}
    place = {key: value for key, value in metadata.items() if key.startswith("langgraph_")}
    return {**place, "twg": twg.id}


def _after(report: Report, *, alone: bool) -> list[str]:
    return [RECORD] if alone and report["status"] in ("answered", "rejected") else [GATHER]


def _ordered(state: State) -> dict[str, Report]:
    """Return the reports in the order in which the groups were chosen."""
    reports = state.get("reports") or {}
    chosen = (state.get("decision") or {}).get("groups") or []
    return {group: reports[group] for group in chosen if group in reports}


def _routing(ctx: Context, question: str, past: Sequence[PastTurn]) -> Doing:
    # A runnable, so that the router's model calls inherit the tag that keeps their tokens out of the stream.
    router: RunnableLambda[str, RouteDecision] = RunnableLambda(
        partial(ctx.router.route, conversation=past),
        afunc=partial(ctx.router.aroute, conversation=past),
        name="router",
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
    """Return one error for all failures, of their common class if that is one of ours."""
    reasons = {group: report.get("reason", "") for group, report in failed.items()}
    names = {report.get("error", "") for report in failed.values()}
    found = getattr(errors, names.pop(), None) if len(names) == 1 else None
    kind = found if isinstance(found, type) and issubclass(found, EcowasError) else SupervisorError
    if len(set(reasons.values())) == 1:
        return kind(next(iter(reasons.values())))
    told = " ".join(f"{group}: {reason}" for group, reason in reasons.items())
    return kind(f"None of the working groups could answer. {told}")
