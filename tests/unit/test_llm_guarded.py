"""``GuardedChatOllama``: the options that it sends with every request, and its checks of the answers."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from langchain_core.exceptions import ContextOverflowError as LangChainsError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_ollama import ChatOllama

import ecowas_lc
from ecowas_lc.errors import ContextOverflowError, ModelError, ModelNotFoundError, ModelServerUnavailableError
from ecowas_lc.llm import faults, held_to, make_chat_model, within_context
from ecowas_lc.llm import guarded as guarded_module
from ecowas_lc.llm.guarded import GuardedChatOllama, guarded
from ecowas_lc.llm.served import version_heeds_truncate
from tests.fixtures.ollama_stub import OllamaStub, serving_stub

Ask = Callable[..., AIMessage]


@pytest.fixture
def stub() -> Iterator[OllamaStub]:
    with serving_stub() as serving:
        yield serving


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask a model in each of LangChain's ways; the answer as one message."""

    def run(model: Any, prompt: Any, **options: Any) -> AIMessage:
        async def streamed() -> Any:
            total = None
            async for chunk in model.astream(prompt, **options):
                total = chunk if total is None else total + chunk
            return total

        if request.param == "invoke":
            return model.invoke(prompt, **options)
        if request.param == "ainvoke":
            return asyncio.run(model.ainvoke(prompt, **options))
        if request.param == "astream":
            return asyncio.run(streamed())
        total = None
        for chunk in model.stream(prompt, **options):
            total = chunk if total is None else total + chunk
        return total

    return run


def model(stub: OllamaStub, **options: Any) -> GuardedChatOllama:
    return make_chat_model(base_url=stub.url, model="tiny", timeout=20, **options)


def sent(stub: OllamaStub) -> dict[str, Any]:
    return stub.bodies("/api/chat")[-1]


def test_every_request_names_its_context_and_its_end(stub: OllamaStub, ask: Ask) -> None:
    """``num_ctx``, ``num_predict``, ``truncate`` and ``shift`` are in every body, however the model is asked."""
    ask(model(stub), "Hello?")
    body = sent(stub)
    assert (body["options"]["num_ctx"], body["options"]["num_predict"]) == (4096, 1024)
    assert (body["truncate"], body["shift"]) == (False, False)
    for asked, num_predict in ((7, 7), (-1, 1024), (0, 1024), (10**6, 4096)):
        ask(model(stub, num_predict=asked), "Hello?")
        assert sent(stub)["options"]["num_predict"] == num_predict
    ask(model(stub, num_ctx=10**6), "Hello?")
    assert sent(stub)["options"]["num_ctx"] == 32768, "Ollama gives no more than the training"


def test_options_of_a_call_do_not_take_them_away(stub: OllamaStub, ask: Ask) -> None:
    """A call may pass its own options; context and limit are still included."""
    ask(model(stub), "Hello?", options={"temperature": 0.1})
    options = sent(stub)["options"]
    assert (options["temperature"], options["num_ctx"], options["num_predict"]) == (0.1, 4096, 1024)
    ask(model(stub), "Hello?", options={"num_ctx": 512})
    assert sent(stub)["options"]["num_predict"] == 128
    ask(model(stub).bind(stop=["x"]), "Hello?")
    assert sent(stub)["options"]["num_ctx"] == 4096


def test_a_call_may_ask_for_the_whole_answer_at_once(stub: OllamaStub, ask: Ask) -> None:
    """``stream=False`` reaches the server, and the answer is the same."""
    assert ask(model(stub), "Hello?", stream=False).text == ask(model(stub), "Hello?").text
    assert [body["stream"] for body in stub.bodies("/api/chat")] == [False, True]


def test_what_is_passed_through(stub: OllamaStub, ask: Ask) -> None:
    """Other settings of Ollama's are passed on unchanged."""
    for options, fields in (
        ({"reasoning": True}, {"think": True}),
        ({"reasoning": "low"}, {"think": "low"}),
        ({"reasoning": None}, {"think": None}),
        ({"keep_alive": "10m"}, {"keep_alive": "10m"}),
        ({"keep_alive": 0}, {"keep_alive": 0}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"format": "json"}, {"format": "json"}),
        ({"truncate": True, "shift": True}, {"truncate": True, "shift": True}),
    ):
        ask(model(stub, **options), "Hello?")
        assert {name: sent(stub).get(name) for name in fields} == fields
    assert "headers" not in json.dumps(sent(stub))
    tool = {"type": "function", "function": {"name": "tariff", "description": "Look up a tariff."}}
    ask(model(stub, format={"type": "object"}).bind_tools([tool]), "Hello?")
    assert sent(stub)["format"] == {"type": "object"}, "structured output and tools reach it together"
    assert sent(stub)["tools"][0]["function"]["name"] == "tariff"


def test_a_model_that_reasons_has_room_for_it(stub: OllamaStub, ask: Ask) -> None:
    """If reasoning is on, half of the context is reserved for the answer."""
    ask(model(stub, reasoning=True), "Hello?")
    assert sent(stub)["options"]["num_predict"] == 2048


LONG = {
    "digits": "4821 93 7720 118 4402 99381 2210 " * 400,
    "Yoruba": "Ẹgbẹ́ iṣẹ́ lórí agbára ṣàyẹ̀wò ìlọsíwájú ẹgbẹ́ iná mànàmáná agbègbè náà. " * 80,
    "French": "Le groupe de travail sur l'énergie a examiné l'état d'avancement du pool énergétique. " * 200,
    "JSON": json.dumps({"meter": "A-17", "kwh": 12.75, "tags": ["grid", "north"]}) * 200,
    "English": "The working group on energy reviewed the progress of the regional power pool. " * 450,
    "emoji": "⚡🔌🌍🌞💡" * 500,
    "Amharic": "የኢነርጂ የሥራ ቡድን የክልሉን የኃይል ገንዳ እድገት ገምግሞ አባል አገራት " * 60,
}


@pytest.mark.parametrize("language", LONG)
def test_what_surely_does_not_fit_is_not_sent(stub: OllamaStub, ask: Ask, language: str) -> None:
    """Prompts of 5,000 tokens and more pass no window of 4,096, whatever they hold; the error is both kinds."""
    for prompt in (LONG[language], [SystemMessage(LONG[language]), HumanMessage("Go on.")]):
        with pytest.raises(ContextOverflowError, match="4096 together") as caught:
            ask(model(stub), prompt)
        assert isinstance(caught.value, LangChainsError)
        assert isinstance(caught.value, ModelError)
    assert stub.bodies("/api/chat") == []


def test_tools_and_pictures_count(stub: OllamaStub, ask: Ask) -> None:
    """Descriptions of tools are part of the prompt, and so are pictures."""
    tools = [
        {"type": "function", "function": {"name": f"tool_{n}", "description": "Look up a tariff. " * 60}}
        for n in range(40)
    ]
    with pytest.raises(ContextOverflowError):
        ask(model(stub).bind_tools(tools), "Hello?")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    with pytest.raises(ContextOverflowError):
        ask(model(stub), [HumanMessage([{"type": "text", "text": "What?"}, *[picture] * 8])])


DOUBTFUL = "word " * 4200  # by the estimate it does not fit, but it may


def test_a_prompt_that_may_fit_is_the_servers_to_refuse(stub: OllamaStub, ask: Ask) -> None:
    """A server that obeys ``truncate`` decides; its refusal, JSON within text or not, is the same error."""
    stub.reads = 4000
    assert ask(model(stub), DOUBTFUL).text == "Good morning."
    for text in (
        "the input length exceeds the context length",
        '{"error":{"code":400,"message":"request (4301 tokens) exceeds the available context size"}}',
    ):
        stub.error = (400, text)
        with pytest.raises(ContextOverflowError) as caught:
            ask(model(stub), DOUBTFUL)
        assert isinstance(caught.value, LangChainsError)
        assert "{" not in str(caught.value)


@pytest.mark.parametrize("version", [{"version": "0.12.3"}, {"version": "x"}, {}, {"version": "0.5"}])
def test_a_server_that_may_not_heed_it_gets_nothing_doubtful(
    stub: OllamaStub, ask: Ask, version: dict[str, str]
) -> None:
    """Older servers, and others, cut silently whatever you request: a prompt that may not fit is refused here."""
    stub.version = version
    with pytest.raises(ContextOverflowError):
        ask(model(stub), DOUBTFUL)
    assert stub.bodies("/api/chat") == []


def test_versions_that_were_tried() -> None:
    """The two recorded versions obey it, and so does the local model; older or unknown ones are not trusted."""
    for version in ("0.24.0", "0.32.15", "0.24.0-rc1", "1.0.0"):
        assert version_heeds_truncate({"version": version})
    assert version_heeds_truncate({"version": "0.1.0", "server": "ecowas_lc local model"})
    for version in ("0.23.9", "0.0.0", "", "latest"):
        assert not version_heeds_truncate({"version": version})


@pytest.mark.parametrize("read", [4096, 2050, 4200])
def test_a_prompt_that_was_cut_all_the_same_is_an_error(stub: OllamaStub, ask: Ask, read: int) -> None:
    """The server's count is compared with the prompt: a window that is full, or half full, was cut."""
    stub.reads = read
    with pytest.raises(ContextOverflowError, match=f"it read {read} of about"):
        ask(model(stub), "word " * 3000)


@pytest.mark.parametrize("read", [40, 500, 1500, 2000, 2900, 3500, 4000])
def test_good_answers_are_not_refused(stub: OllamaStub, ask: Ask, read: int) -> None:
    """Estimates may be far from the server's count."""
    stub.reads = read
    assert ask(model(stub), "word " * 2500).text == "Good morning."


def test_a_model_that_counts_otherwise_is_learnt(stub: OllamaStub, ask: Ask) -> None:
    """After a few prompts the estimate follows the model's counts, and a count far below it means a cut prompt."""
    llm = model(stub)
    text = "The working group on energy reviewed the progress of the regional power pool. "
    stub.reads = 1400
    for _ in range(4):
        ask(llm, text * 100)
    counted = llm.served.calibration.count([HumanMessage(text * 100)])
    assert 1400 <= counted <= 1700
    stub.reads = 2800
    assert ask(llm, text * 200).text  # twice as much, and it is known to fit
    stub.reads = 1500
    with pytest.raises(ContextOverflowError, match="it read 1500"):
        ask(llm, text * 250)


def test_reasoning_is_kept_apart(stub: OllamaStub, ask: Ask) -> None:
    """In a field or between tags, it becomes a reasoning block, not text; earlier reasoning is not sent again."""
    stub.thinking = "hmm"
    answer = ask(model(stub, reasoning=True), "Hello?")
    assert answer.text == "Good morning."
    assert answer.content_blocks[0] == {"type": "reasoning", "reasoning": "hmm"}
    stub.thinking, stub.words = None, ["<thi", "nk>h", "mm</th", "ink>\n\n", "Good ", "morning."]
    answer = ask(model(stub), "Hello?")
    assert answer.text == "Good morning."
    assert answer.content_blocks[0] == {"type": "reasoning", "reasoning": "hmm"}
    ask(model(stub), [HumanMessage("Hello?"), answer, HumanMessage("Again?")])
    assert "hmm" not in json.dumps(sent(stub))


def test_json_may_hold_tags(stub: OllamaStub, ask: Ask) -> None:
    """With a schema the server returns only JSON: its text stays unchanged."""
    stub.words = ['{"a": "<think>', '</think>"}']
    assert ask(model(stub, format="json"), "Hello?").text == '{"a": "<think></think>"}'


def test_a_model_of_the_users_gets_the_guard(stub: OllamaStub, ask: Ask) -> None:
    """A plain ``ChatOllama``, or a subclass with its own behaviour, keeps its options and connections."""

    class Shouting(ChatOllama):
        def _convert_messages_to_ollama_messages(self, messages: list[BaseMessage]) -> Any:
            made = super()._convert_messages_to_ollama_messages(messages)
            return [{**message, "content": message["content"].upper()} for message in made]

    kwargs = {"headers": {"X-Who": "me"}, "limits": httpx.Limits(max_keepalive_connections=0)}
    for kind, said in ((ChatOllama, "Hello?"), (Shouting, "HELLO?")):
        plain = kind(base_url=stub.url, model="tiny", seed=5, client_kwargs=kwargs)
        held = guarded(plain)
        assert isinstance(held, kind)
        assert held._client._client is plain._client._client
        ask(held, "Hello?")
        body = sent(stub)
        assert body["messages"][-1]["content"] == said
        assert (body["options"]["seed"], body["options"]["num_ctx"], body["truncate"]) == (5, 4096, False)
        assert stub.headers[-1]["X-Who"] == "me"
        assert guarded(held) is held
        ask(within_context(held_to(plain, 2048), 2048, 99), "Hello?")
        assert (sent(stub)["options"]["num_ctx"], sent(stub)["options"]["num_predict"]) == (2048, 99)
        plain._client.close()
        asyncio.run(plain._async_client.close())


def test_errors_have_names(stub: OllamaStub, ask: Ask) -> None:
    """The drop-in class raises this package's errors itself; it asks again about a model that was removed."""
    with pytest.raises(ModelNotFoundError, match="ollama pull other"):
        ask(make_chat_model(base_url=stub.url, model="other"), "Hello?")
    llm = model(stub)
    ask(llm, "Hello?")
    stub.error = (404, "model 'tiny' not found")
    with pytest.raises(ModelNotFoundError):
        ask(llm, "Hello?")
    stub.error = None
    asked = len(stub.bodies("/api/show"))
    ask(llm, "Hello?")
    assert len(stub.bodies("/api/show")) == asked + 1
    stub.die_before = 1
    with pytest.raises(ModelServerUnavailableError):
        ask(llm, "Hello?")


def test_it_can_be_copied_and_named(stub: OllamaStub) -> None:
    """Copies share what is known of the model; the repr shows no secret."""
    llm = make_chat_model(base_url=stub.url.replace("//", "//someone:hunter2@"), model="Tiny:latest")
    assert llm.model_copy(update={"temperature": 0}).served is llm.served
    assert llm.served is model(stub).served, "one model under two names"
    assert "hunter2" not in f"{llm!r}{llm.address}"


def test_the_error_is_one_class_for_both() -> None:
    """Our class is LangChain's as well, is public, can be pickled, and is not loaded before its first use."""
    assert issubclass(ContextOverflowError, LangChainsError)
    assert ecowas_lc.ContextOverflowError is ContextOverflowError
    again = pickle.loads(pickle.dumps(ContextOverflowError("too long")))
    assert (type(again), str(again)) == (ContextOverflowError, "too long")


async def test_what_a_server_does_not_say_is_unknown() -> None:
    """A client of one's own, no answer, a page and other JSON leave it unknown; a call's model is traced."""

    def client(reply: httpx.Response | Exception) -> Any:
        def handler(_: httpx.Request) -> httpx.Response:
            if isinstance(reply, Exception):
                raise reply
            return reply

        return SimpleNamespace(_client=httpx.Client(transport=httpx.MockTransport(handler), base_url="http://h"))

    own = SimpleNamespace()
    assert guarded_module._guarded_client(own) is own
    assert guarded_module._version(own) == await guarded_module._aversion(own) == {}
    assert guarded_module._version(client(httpx.Response(200, text="<html>"))) == {}
    assert guarded_module._version(client(httpx.Response(200, json=[1]))) == {}
    away: Any = SimpleNamespace(_client=client(httpx.ConnectError("away")))
    assert guarded_module.version_of(away) == {}
    model = make_chat_model(model="tiny", base_url="http://127.0.0.1:1")
    assert model._get_ls_params(model="other")["ls_model_name"] == "other"


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (503, "loading", "is not ready"),
        (401, "unauthorized, see ollama.com", "ollama signin"),
        (-1, "odd", "(odd)"),
    ],
)
def test_answers_about_the_server_are_named(status: int, text: str, said: str) -> None:
    """Not ready yet, not signed in, or an error without a status in the middle of a stream."""
    place = faults._Place("tiny", "http://h")
    assert said in str(faults._about_the_server(place, status, text, text, is_page=False))
