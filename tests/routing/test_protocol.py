"""The protocol of routers, and how they receive a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableLambda

from ecowas_lc import PastTurn, RouteDecision, Router, get_router
from ecowas_lc.supervisor.routing import ConversationRouter, with_conversation

TURNS = (PastTurn("Which solar plants?", ("energy",)), PastTurn("Thanks", ()))


class OnlyQuestions:
    """A router as people wrote them before there were conversations."""

    def route(self, question: str) -> RouteDecision:
        return RouteDecision((question,), "own", "")

    async def aroute(self, question: str) -> RouteDecision:
        return self.route(question)


class WithConfig(OnlyQuestions):
    def route(self, question: str, config: Any = None) -> RouteDecision:
        return RouteDecision((question, *(config or {}).get("tags", ())), "own", "")


class Conversing:
    def route(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        return RouteDecision((question, *(turn.question for turn in conversation)), "own", "")

    async def aroute(self, question: str, *, conversation: Sequence[PastTurn] = ()) -> RouteDecision:
        return self.route(question, conversation=conversation)


class HalfWay(OnlyQuestions):
    def route(self, question: str, **others: Any) -> RouteDecision:
        return RouteDecision((question, *others), "own", "")


async def test_a_router_that_takes_only_a_question_still_works() -> None:
    """Conversations must not break the routers that people have already written."""
    router = with_conversation(OnlyQuestions())
    assert router.route("a", conversation=TURNS).groups == ("a",)
    assert (await router.aroute("a", conversation=TURNS)).groups == ("a",)
    half = with_conversation(HalfWay())
    assert (await half.aroute("a", conversation=TURNS)).groups == ("a",)


async def test_a_router_that_takes_a_conversation_is_given_it_unchanged() -> None:
    """The adapter adds nothing to a router that needs none."""
    own = Conversing()
    assert with_conversation(own) is own
    runnable = RunnableLambda(own.route, afunc=own.aroute)
    assert runnable.invoke("a", conversation=TURNS).groups == ("a", "Which solar plants?", "Thanks")
    assert (await runnable.ainvoke("a", conversation=TURNS)).groups == ("a", "Which solar plants?", "Thanks")


def test_a_config_still_reaches_a_router_that_takes_one() -> None:
    """A router may read the run's config; the adapter must pass it on."""
    router = with_conversation(WithConfig())
    chosen = RunnableLambda(router.route).invoke("a", {"tags": ["x"]}, conversation=TURNS)
    assert chosen.groups == ("a", "x")


def test_shipped_routers_take_a_conversation() -> None:
    """All four share one signature, and remain routers for callers that pass no context."""
    router = get_router("lexical")
    assert isinstance(router, Router)
    assert isinstance(router, ConversationRouter)
    assert with_conversation(router) is router
    assert router.route("Which solar plants?", conversation=TURNS).groups == ("energy",)
