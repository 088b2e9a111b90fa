"""The length of prompts in tokens, and the number of tokens that a model accepts.

Lengths are estimated on the safe side, then calibrated by the counts of the server. Ollama silently cuts prompts
that are too long.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ecowas_lc.llm.models import is_chat_ollama

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage
    from langchain_ollama import ChatOllama

    from ecowas_lc.llm.guarded import GuardedChatOllama

TokenCounter = Callable[["Sequence[BaseMessage]"], int]
"""Counts the tokens of messages. It should overestimate rather than underestimate."""

CUT = "[…]"
"""The mark for a text that was cut off."""

UNKNOWN_CONTEXT = 8192
"""Context in tokens that is assumed for models that are not on Ollama and do not state theirs."""

_MOST_FOR_ANSWER = 1024
_AROUND_A_MESSAGE = 6  # for its role and delimiters
AROUND_A_PROMPT = 32
"""Tokens that a model's template may add to a prompt, for example a default system message."""

_AN_IMAGE = 1024
_LONGEST_REMEMBERED = 8192

# Measured with SmolLM2's vocabulary, which was made for English, on texts in 13 languages, code, JSON and digits.
# Newer models' vocabularies need fewer tokens for everything except English.
_LETTERS_A_TOKEN = {"english": 4.0, "romance": 2.5, "other": 2.1}
_RUNS = re.compile(r"[A-Za-z0-9\x80-\U0010ffff]+")  # words and numbers; the rest is counted apart
_SIGNS = re.compile(r"[!-/:-@\[-`{-~]")
_BLANKS = re.compile(r"[ \t]{2,}|[\r\n]+|\t")
_BLANK_AND_DIGIT = re.compile(r"[ \t][0-9]")
_PARTS = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9]+")
_ENGLISH_WORDS = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what
its about than into them can only other time new some could these two may then do first any my now such like
our over me even most after also did many how must should where i your does
"""
_ROMANCE_WORDS = """
de la le les et des en un une du que qui dans pour sur par est au aux ce ces il elle nous vous avec sont pas
plus se sa son ses ou mais comme leur été d l qu n o os as e do da dos das em um uma que para com por não na
no nas nos ao à é foi mais como se seu sua el los las y del al lo es con
"""
_ENGLISH, _ROMANCE = frozenset(_ENGLISH_WORDS.split()), frozenset(_ROMANCE_WORDS.split())
_VOWELS = frozenset("aeiouyAEIOUY")

TextKind = Literal["english", "romance", "other", "signs"]


class Estimate(NamedTuple):
    """The estimated tokens of a text, and its predominant kind."""

    tokens: float
    kind: TextKind


@dataclass(frozen=True, slots=True)
class Window:
    """A model's context in tokens, divided into ``prompt`` for its input and ``answer`` for its output."""

    context: int
    answer: int

    @classmethod
    def of(cls, context: int, answer: int | None = None) -> Window:
        """Divide a context, reserving ``answer`` tokens (at most half) for the answer.

        If ``answer`` is ``None``, a quarter is reserved, at most 1,024 tokens.
        """
        kept = min(_MOST_FOR_ANSWER, context // 4)
        if answer is not None and answer > 0:
            kept = min(answer, context // 2)
        return cls(context, max(kept, 1))

    @property
    def prompt(self) -> int:
        """Tokens available for the prompt."""
        return self.context - self.answer


def count_tokens(messages: Sequence[BaseMessage]) -> int:
    """Estimate the tokens of messages in any language, erring on the high side.

    English, French and Portuguese are recognised by their words; other words take more tokens, because
    vocabularies made for English split them. A digit or a sign is one token; non-ASCII characters count by their
    bytes.
    """
    if not messages:
        return 0
    return math.ceil(sum(estimate_message(message).tokens for message in messages))


def count_tools(tools: Sequence[Any]) -> int:
    """Estimate the tokens that the descriptions of tools add to a prompt."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    text = "".join(json.dumps(convert_to_openai_tool(tool), ensure_ascii=False) for tool in tools)
    return math.ceil(estimate(text).tokens)


def estimate_message(message: BaseMessage) -> Estimate:
    """Estimate the tokens of one message: its text, tool calls, images and delimiters."""
    text = str(message.text)
    calls = getattr(message, "tool_calls", None)
    if calls:
        text += json.dumps(calls, ensure_ascii=False, default=str)
    found = estimate(text)
    return Estimate(found.tokens + _AN_IMAGE * _pictures_in(message) + _AROUND_A_MESSAGE, found.kind)


def estimate(text: str) -> Estimate:
    """Estimate the tokens of a text."""
    return _estimate_again(text) if len(text) <= _LONGEST_REMEMBERED else _estimate(text)


def _estimate(text: str) -> Estimate:
    runs = Counter(_RUNS.findall(text))
    words = {run: times for run, times in runs.items() if run.isascii() and run.isalpha()}
    mixed = {run: times for run, times in runs.items() if run not in words}
    signs = float(len(_SIGNS.findall(text)) + len(_BLANK_AND_DIGIT.findall(text)))
    tokens = float(len(_BLANKS.findall(text)))
    kind = _language_of(words, sum(mixed.values()))
    tokens += sum(_tokens_in(word, kind) * times for word, times in words.items())
    for run, times in mixed.items():
        # letters next to other scripts or digits are parts of words that the vocabulary lacks
        letters, others = _in_a_mixed_run(run, kind == "romance")
        tokens += letters * times
        signs += others * times
    bound = len(text.encode("utf-8", "surrogatepass"))  # no text takes more than one token per byte
    return Estimate(min(tokens + signs, bound), kind if signs <= tokens * 2 else "signs")


_estimate_again = lru_cache(maxsize=1024)(_estimate)


def _in_a_mixed_run(run: str, is_romance: bool) -> tuple[float, float]:
    """Return the tokens of a mixed run's letters, and those of its other characters."""
    letters = others = 0.0
    for part in _PARTS.findall(run):
        if not part.isascii():
            others += sum(map(_weight, part))
        elif part.isdigit():
            others += len(part)
        else:
            letters += max(len(part) / (2.2 if is_romance else 1.6), 1.0)
    return letters, others


def _weight(character: str) -> float:
    """Return the tokens of a non-ASCII character: one per byte, or less in scripts with an alphabet."""
    if "\u0370" <= character <= "\u06ff":
        return 1.3
    return len(character.encode("utf-8", "surrogatepass"))


def _language_of(words: Mapping[str, int], others: int) -> TextKind:
    total = sum(words.values())
    if not total:
        return "other"
    known = {"english": 0, "romance": 0}
    for word, times in words.items():
        lowered = word.lower()
        known["english"] += times * (lowered in _ENGLISH)
        known["romance"] += times * (lowered in _ROMANCE)
    english, romance = known["english"] / (total + others), known["romance"] / (total + others)
    if max(english, romance) < 0.2:
        return "other"
    return "english" if english >= romance else "romance"


def _tokens_in(word: str, kind: TextKind) -> float:
    size = len(word)
    if size == 1:
        return 1.0
    vowels = sum(letter in _VOWELS for letter in word)
    mixed = not (word[1:].islower() or word.isupper())
    if size > 24 or mixed or vowels * 6 < size:
        return size / 1.3  # a code, an abbreviation, or a name without vowels
    if word.isupper():
        return max(size / 2.0, 1.0)
    if kind in ("english", "romance") and word.lower() in _ENGLISH | _ROMANCE:
        return 1.0
    if size <= 4:
        return 1.2
    return max(size / _LETTERS_A_TOKEN[kind], 1.0)


def shorten(text: str, tokens: int) -> str:
    """Return ``text`` cut to about ``tokens`` tokens, with a mark where it was cut."""
    if estimate(text).tokens <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _estimate(text[:middle]).tokens <= tokens - 2:
            low = middle
        else:
            high = middle - 1
    cut = text[:low]
    at_word = cut.rsplit(maxsplit=1)[0] if " " in cut.strip() else cut
    return f"{at_word.rstrip()} {CUT}" if at_word else CUT


def _pictures_in(message: BaseMessage) -> int:
    if not isinstance(message.content, list):
        return 0
    return sum(
        isinstance(part, dict) and str(part.get("type")) in ("image", "image_url", "file", "audio", "video")
        for part in message.content
    )


_LEAST_TO_LEARN_FROM = 64
_REMEMBERED = 20
_SURE_AFTER = 3
_SLACK = 1.1  # the next prompt may need more than any prompt so far
_FACTORS = (0.25, 4.0)


@dataclass(slots=True)
class Calibration:
    """Corrects token estimates for one model, with one factor for each kind of text.

    Until the server has counted a few prompts of a kind, the estimate is used as it is, on the safe side. A prompt
    that the server counts as longer than estimated raises the factor at once.
    """

    _ratios: dict[str, deque[float]] = field(default_factory=dict)

    def count(self, messages: Sequence[BaseMessage], extra: int = 0) -> int:
        """Return how many tokens a prompt takes; ``extra`` is the estimate for parts that are not messages."""
        tokens = sum(found.tokens * self._factor(found.kind) for found in map(estimate_message, messages))
        return math.ceil(tokens + extra * self._factor("signs"))

    def expected(self, messages: Sequence[BaseMessage], extra: int = 0) -> float | None:
        """Return the expected server count, or ``None`` until enough prompts of this kind have been counted."""
        kind = _main_kind(messages)
        ratios = self._ratios.get(kind, ())
        if len(ratios) < _SURE_AFTER:
            return None
        return (sum(found.tokens for found in map(estimate_message, messages)) + extra) * min(ratios)

    def learn(self, messages: Sequence[BaseMessage], told: int, extra: int = 0) -> None:
        """Learn from the server's count of a prompt."""
        estimated = sum(found.tokens for found in map(estimate_message, messages)) + extra
        if estimated < _LEAST_TO_LEARN_FROM or told < _LEAST_TO_LEARN_FROM // 2:
            return
        least, most = _FACTORS
        ratio = min(max(told / estimated, least), most)
        self._ratios.setdefault(_main_kind(messages), deque(maxlen=_REMEMBERED)).append(ratio)

    def _factor(self, kind: str) -> float:
        ratios = self._ratios.get(kind)
        if not ratios:
            # what one kind of text needs beyond its estimate, another kind may need too
            return max([1.0, *(max(others) for others in list(self._ratios.values()) if others)])
        found = max(ratios) * _SLACK
        return found if len(ratios) >= _SURE_AFTER else max(found, 1.0)


def _main_kind(messages: Sequence[BaseMessage]) -> str:
    totals: dict[str, float] = {}
    for message in messages:
        found = estimate_message(message)
        totals[found.kind] = totals.get(found.kind, 0.0) + found.tokens
    return max(totals, key=lambda kind: totals[kind], default="other")


def effective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return the number of tokens that prompt and answer may take together.

    For ``ChatOllama``, this is the context that our requests ask for explicitly, whatever other clients made the
    server load: ``num_ctx``, passed here or set on the model; else the Modelfile's; else
    ``OLLAMA_CONTEXT_LENGTH``; else 4,096. It is never more than the model was trained for, because Ollama allots
    no more. For other models: ``num_ctx``, else what their ``profile`` says.

    Args:
        model: The chat model.
        num_ctx: Context in tokens to ask for.

    Returns:
        The number of tokens, or ``None`` if it is unknown.

    Raises:
        ModelServerUnavailableError: The server does not answer.
        ModelNotFoundError: The server does not have the model.
    """
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    return _asking_for(model, num_ctx).context()


async def aeffective_context(model: BaseChatModel, num_ctx: int | None = None) -> int | None:
    """Return what :func:`effective_context` returns, without blocking the event loop."""
    if not is_chat_ollama(model):
        return num_ctx or _from_profile(model)
    return await _asking_for(model, num_ctx).acontext()


def held_to(model: BaseChatModel, num_ctx: int | None) -> BaseChatModel:
    """Return an Ollama model with the guard, and with ``num_ctx`` if given; return other models unchanged."""
    return _asking_for(model, num_ctx) if is_chat_ollama(model) else model


def within_context(model: BaseChatModel, num_ctx: int, num_predict: int) -> BaseChatModel:
    """Return the model limited to a context of ``num_ctx`` tokens and answers of at most ``num_predict`` tokens.

    Only ``ChatOllama`` can be limited; other models are returned unchanged. A smaller ``num_predict`` of the
    model's own is kept. Stating the context in each request keeps the server from choosing another one later.
    """
    if not is_chat_ollama(model):
        return model
    held = _asking_for(model, num_ctx)
    own = held.num_predict
    if own is None or own < 0 or own > num_predict:
        own = num_predict
    return held if held.num_predict == own else held.model_copy(update={"num_predict": own})


def _asking_for(model: ChatOllama, num_ctx: int | None) -> GuardedChatOllama:
    from ecowas_lc.llm.guarded import guarded

    held = guarded(model)
    if num_ctx is None or held.num_ctx == num_ctx:
        return held
    return held.model_copy(update={"num_ctx": num_ctx})


def _from_profile(model: BaseChatModel) -> int | None:
    profile = getattr(model, "profile", None)
    length = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
    return length if isinstance(length, int) and length > 0 else None
