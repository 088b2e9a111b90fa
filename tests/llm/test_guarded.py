"""``GuardedChatOllama`` against the real small model, whose server cuts, reloads and queues as Ollama does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_ollama import ChatOllama
from langgraph.checkpoint.memory import InMemorySaver

from ecowas_lc import GuardedContextMiddleware
from ecowas_lc.errors import ContextOverflowError, ModelCapabilityError
from ecowas_lc.llm import LLMService, make_chat_model
from ecowas_lc.llm.guarded import GuardedChatOllama
from ecowas_lc.llm.tokens import count_tokens
from ecowas_lc.local_model import LocalModel
from ecowas_lc.settings import get_settings
from ecowas_lc.supervisor import build_supervisor
from ecowas_lc.twg import TWG
from tests.fixtures.local_model import REAL_OLLAMA
from tests.fixtures.scripted_model import FixedRouter

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]

WINDOW = 160
TEXTS = {
    "English": "the working group reviewed progress of the regional power pool and agreed",
    "French": "le groupe de travail a examiné l'état d'avancement du pool énergétique régional",
    "Yoruba": "Ẹgbẹ́ iṣẹ́ lórí agbára ṣàyẹ̀wò ìlọsíwájú iná mànàmáná agbègbè náà",
    "Hausa": "Kungiyar aiki kan makamashi ta duba ci gaban hadaddiyar wutar lantarki",
    "digits": "4821 93.5 7720 118 44,02 99381",
    "code": "def total(rows): return {row['k']: row['v'] for row in rows}",
    "JSON": '{"meter": "A-17", "kwh": 12.75, "ok": true}',
    "emoji": "⚡ 🔌🌍 👩🏾‍🌾 🇬🇭",
}
WORDS = {language: text.split() for language, text in TEXTS.items()}


def guard(model: LocalModel, **options: Any) -> GuardedChatOllama:
    settings = {"temperature": 0, "num_predict": 2, "timeout": 120} | options
    return make_chat_model(base_url=model.base_url, model=model.model, **settings)


conversations = st.lists(
    st.tuples(
        st.sampled_from([SystemMessage, HumanMessage, AIMessage]),
        st.sampled_from(sorted(WORDS)).flatmap(
            lambda language: st.lists(st.sampled_from(WORDS[language]), min_size=10, max_size=60).map(" ".join)
        ),
    ).map(lambda made: made[0](made[1])),
    min_size=1,
    max_size=3,
)


@pytest.fixture
def awkward(request: pytest.FixtureRequest) -> LocalModel:
    """The server that behaves worst."""
    model: LocalModel = request.getfixturevalue("real_model" if REAL_OLLAMA else "awkward_model")
    return model


@pytest.fixture
def plain(request: pytest.FixtureRequest) -> Any:
    """How many tokens a server itself counts in a prompt, with all the room there is."""
    server: LocalModel = request.getfixturevalue("real_model" if REAL_OLLAMA else "kind_model")
    with httpx.Client(base_url=server.base_url, timeout=120) as client:

        def count(messages: list[BaseMessage]) -> int:
            roles = {"human": "user", "ai": "assistant", "system": "system"}
            body = {
                "model": server.model,
                "messages": [{"role": roles[m.type], "content": m.text} for m in messages],
                "options": {"num_ctx": 2048, "num_predict": 1},
                "stream": False,
            }
            answer = client.post("/api/chat", json=body)
            assert answer.status_code == 200
            return int(answer.json()["prompt_eval_count"])

        yield count


def test_no_prompt_is_cut_unnoticed(awkward: LocalModel, plain: Any) -> None:
    """In any language, digits or code, the whole prompt is read, or an error says that it is not."""
    outcomes = {"read": 0, "refused": 0}

    @settings(max_examples=16, derandomize=True, database=None)
    @given(conversations)
    def holds(messages: list[BaseMessage]) -> None:
        truth = plain(messages)
        try:
            answer = guard(awkward, num_ctx=WINDOW).invoke(messages)
        except ContextOverflowError:
            outcomes["refused"] += 1
            assert truth > 0.6 * WINDOW, "what surely fits is not refused"
            return
        outcomes["read"] += 1
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["input_tokens"] == truth
        assert truth < WINDOW

    holds()
    assert min(outcomes.values()) > 1, f"both were tried: {outcomes}"


def test_the_count_is_on_the_safe_side(plain: Any) -> None:
    """For every kind of text, the estimate is at least nine tenths of the server's count."""
    for language, words in WORDS.items():
        prompt: list[BaseMessage] = [HumanMessage(" ".join(words * 2))]
        assert count_tokens(prompt) >= 0.9 * plain(prompt), language


def test_the_service_refuses_what_ollama_would_cut(local_model: LocalModel) -> None:
    """A prompt slightly longer than the window is an error from the first call on, never half read."""
    llm = LLMService(local_model.base_url, local_model.model, timeout=120, num_ctx=WINDOW)
    text = " ".join(WORDS["Yoruba"] * 4)
    history = [{"role": "system", "content": text}, {"role": "user", "content": "Go on."}]
    for ask in (lambda: llm.chat(text), lambda: list(llm.stream(text)), lambda: llm.chat_with_history(history)):
        with pytest.raises(ContextOverflowError):
            ask()
    assert llm.chat("Hello?", max_tokens=4).endswith("[…]"), "an answer that ended there says so"


def test_an_answer_ends(local_model: LocalModel) -> None:
    """Without an explicit limit, an answer ends after a quarter of the window, and never outgrows it."""
    endless = guard(local_model, num_ctx=WINDOW, num_predict=None, format={"type": "array", "minItems": 500})
    answer = endless.invoke("Count.")
    assert answer.response_metadata["done_reason"] == "length"
    assert answer.response_metadata["eval_count"] == WINDOW // 4


def told(model: LocalModel, what: str) -> int:
    """How often the local model's server was loaded, or cut a prompt in silence."""
    return int(httpx.get(f"{model.base_url}/api/version").json()[what])


ENERGY = TWG(id="energy", name="Energy", prompt="Be brief.", description="Power.")
MINERALS = TWG(id="minerals", name="Minerals", prompt="Be brief.", description="Mines.")
needs_counts = pytest.mark.skipif(bool(REAL_OLLAMA), reason="the local model's server counts what it does")


def by_service(model: LocalModel, messages: list[BaseMessage]) -> None:
    roles = {"human": "user", "ai": "assistant"}
    llm = LLMService(model.base_url, model.model, timeout=120, num_ctx=WINDOW, temperature=0)
    llm.chat_with_history([{"role": roles[m.type], "content": m.text} for m in messages], max_tokens=8)


def by_supervisor(model: LocalModel, messages: list[BaseMessage]) -> bool:
    """Ask a fourth question after three answered ones; return whether the model summarised what is too long."""
    graph = build_supervisor(
        guard(model), groups=[ENERGY], router=FixedRouter(), num_ctx=2 * WINDOW, checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    graph.update_state(config, {"messages": messages[:-1]}, as_node="record")
    result = graph.invoke({"messages": [HumanMessage(f"energy: {messages[-1].text}")]}, config)
    report = result["reports"]["energy"]
    if report["status"] == "failed":
        assert report["error"] == "ContextOverflowError", report
        raise ContextOverflowError(report["reason"])
    return bool((graph.get_state(config).values.get("summary") or {}).get("text"))


def by_middleware(model: LocalModel, messages: list[BaseMessage]) -> None:
    plain = ChatOllama(base_url=model.base_url, model=model.model, num_ctx=WINDOW, num_predict=2)
    try:
        create_agent(plain, middleware=[GuardedContextMiddleware()]).invoke({"messages": messages})
    finally:
        plain._client.close()


@needs_counts
@pytest.mark.parametrize("ask", [by_service, by_supervisor, by_middleware])
def test_no_way_of_asking_cuts(awkward_model: LocalModel, ask: Any) -> None:
    """Service, supervisor with summary, and middleware: the server never has to cut their prompts."""
    outcomes = {"answered": 0, "refused": 0} | ({"summarised": 0} if ask is by_supervisor else {})
    scale = 3 if ask is by_supervisor else 1

    @settings(max_examples=6, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.lists(st.sampled_from(sorted(WORDS)), min_size=4, max_size=4), st.integers(4, 24))
    def holds(languages: list[str], words: int) -> None:
        texts = [" ".join((WORDS[language] * 30)[: words * scale]) for language in languages]
        messages: list[BaseMessage] = []
        for text in texts[:-1]:
            messages += [HumanMessage(text), AIMessage("Noted. " + text[: len(text) // 2])]
        try:
            if ask(awkward_model, [*messages, HumanMessage(texts[-1])]):
                outcomes["summarised"] += 1
            outcomes["answered"] += 1
        except ContextOverflowError:
            outcomes["refused"] += 1

    before = told(awkward_model, "cuts")
    holds()
    assert told(awkward_model, "cuts") == before
    assert min(outcomes.values()) > 0, f"all came about: {outcomes}"


@needs_counts
def test_the_server_tells_what_it_cut(awkward_model: LocalModel) -> None:
    """A client like Ollama's own has its prompt cut silently, which is counted: the test above can fail."""
    before = told(awkward_model, "cuts")
    body = {"model": awkward_model.model, "options": {"num_ctx": WINDOW, "num_predict": 1}, "stream": False}
    long = {"role": "user", "content": TEXTS["digits"] * 20}
    assert httpx.post(f"{awkward_model.base_url}/api/chat", json={**body, "messages": [long]}).status_code == 200
    assert told(awkward_model, "cuts") == before + 1


@pytest.fixture
def short_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of the process name a context in which summaries are soon needed."""
    monkeypatch.setenv("OLLAMA_CONTEXT_LENGTH", "640")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@needs_counts
@pytest.mark.usefixtures("short_context")
def test_one_window_for_everything(awkward_model: LocalModel) -> None:
    """All requests of a process ask for the same context, so nothing is loaded after the first."""
    url, name = awkward_model.base_url, awkward_model.model
    model = guard(awkward_model, num_predict=8)
    model.invoke("Hello?")
    before = told(awkward_model, "loads")
    options: dict[str, Any] = {"groups": [ENERGY, MINERALS]}
    build_supervisor(model, router="model", **options).invoke({"messages": [("user", "Power for mines?")]})
    graph = build_supervisor(model, router=FixedRouter(), checkpointer=InMemorySaver(), **options)
    config: Any = {"configurable": {"thread_id": "t"}}
    long = TEXTS["English"] * 20
    graph.update_state(
        config,
        {"messages": [HumanMessage(long), AIMessage(long), HumanMessage("And?"), AIMessage("No.")]},
        as_node="record",
    )
    graph.invoke({"messages": [("user", "energy+minerals: what now?")]}, config)
    assert graph.get_state(config).values["summary"]["text"]
    llm = LLMService(url, name, timeout=120, temperature=0)
    llm.check()
    llm.chat("Hello?", max_tokens=8)
    list(llm.stream("Hello?", max_tokens=8))
    agent = create_agent(
        model,
        middleware=[SummarizationMiddleware(model, trigger=("messages", 3), keep=("messages", 1))],
    )
    agent.invoke({"messages": [HumanMessage("Hello?"), AIMessage("Good day."), HumanMessage("Again?")]})
    asyncio.run(guard(awkward_model, num_predict=4).ainvoke("Hello?"))
    guard(awkward_model, num_predict=20, format="json").invoke("Answer in JSON.")
    assert told(awkward_model, "loads") == before, "another context would have loaded it again"


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_many_at_once(local_model: LocalModel, way: str) -> None:
    """Six requests at once are all answered, whether the server takes them one by one or not."""
    model = guard(local_model, num_predict=6)
    if way == "threads":
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(model.invoke, [f"Count from {n}." for n in range(6)]))
    else:

        async def all_six() -> list[AIMessage]:
            return list(await asyncio.gather(*(model.ainvoke(f"Count from {n}.") for n in range(6))))

        answers = asyncio.run(all_six())
    assert all(answer.text for answer in answers)


def test_by_any_of_its_names(local_model: LocalModel) -> None:
    """A model is recognised under all the names that Ollama accepts."""
    for name in (local_model.model.upper(), f"registry.ollama.ai/library/{local_model.model}"):
        llm = LLMService(local_model.base_url, name, timeout=120)
        llm.check()
        assert llm.chat("Hello?", max_tokens=8, temperature=0)


def test_tools_that_the_model_lacks(local_model: LocalModel) -> None:
    """The model's refusal of tools is a separate error, after which groups answer without tools."""
    tool = {"type": "function", "function": {"name": "tariff", "description": "x"}}
    with pytest.raises(ModelCapabilityError, match="does not support tools"):
        guard(local_model).bind_tools([tool]).invoke("Hello?")

    def tariff(country: str) -> str:
        """Look up a country's electricity tariff."""
        return f"{country}: 0.13 USD/kWh"

    graph = build_supervisor(guard(local_model, num_predict=12), router=FixedRouter(), tools={"energy": [tariff]})
    result = graph.invoke({"messages": [("user", "energy: what does power cost in Ghana?")]})
    assert result["reports"]["energy"]["tools"] == "unavailable"


def test_probabilities_of_tokens(local_model: LocalModel) -> None:
    """``logprobs`` are passed through both ways."""
    answer = guard(local_model, logprobs=True, top_logprobs=2).invoke("Hello?")
    told = json.dumps(answer.response_metadata.get("logprobs"), default=str)
    assert "logprob" in told
