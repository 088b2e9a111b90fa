"""Separating a model's reasoning from its answer.

For models that it knows, Ollama returns the reasoning in a separate field. Other models write it into their answer
between tags, and a stream may break anywhere within such a tag. Either way, the reasoning ends up where LangChain
looks for it, so ``message.content_blocks`` has a standard ``reasoning`` block and ``message.text`` only the
answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    _Message = TypeVar("_Message", bound=AIMessage)

_NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "seed:think")
_LONGEST_TAG = 160  # characters, including attributes
_FINAL = "<|channel|>final<|message|>"

# (opening, closing) tags in lower case; the tags within one tuple are equivalent.
_PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    *(((f"<{name}>",), (f"</{name}>",)) for name in _NAMES),
    *(((f"<|{name}|>",), (f"<|/{name}|>", f"</|{name}|>")) for name in ("think", "thinking")),
    (("<|begin_of_thought|>",), ("<|end_of_thought|>",)),
    (("[think]",), ("[/think]",)),
    (("◁think▷",), ("◁/think▷",)),
    (
        ("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>analysis<|message|>"),
        (f"<|end|><|start|>assistant{_FINAL}", f"<|start|>assistant{_FINAL}", _FINAL, "<|end|>"),
    ),
)
_OPENING = {text: kind for kind, (opening, _) in enumerate(_PAIRS) for text in opening}
_CLOSING = {text: kind for kind, (_, closing) in enumerate(_PAIRS) for text in closing}
_LITERALS = sorted({*_OPENING, *_CLOSING}, key=len, reverse=True)
_STARTS = frozenset(literal[0] for literal in _LITERALS)
_WITH_ATTRIBUTES = tuple(f"<{name}" for name in _NAMES)
_TAG = re.compile(
    "|".join([*map(re.escape, _LITERALS), rf"<(?P<name>{'|'.join(_NAMES)})\s[^<>]{{0,100}}>"]),
    re.IGNORECASE | re.ASCII,
)
_SMALL_LETTERS = {ord(letter): letter.lower() for letter in ascii_uppercase}


class Split(NamedTuple):
    """The two parts of a text."""

    answer: str
    reasoning: str


@dataclass(slots=True)
class ReasoningSplitter:
    """Separates reasoning from a growing text: call :meth:`take` with each piece, and :meth:`end` after the last.

    The end of a piece is held back if it may be the start of a tag, until the next piece decides. A tag right
    after a backtick is text that the model writes about. White space after reasoning is dropped.
    """

    _held: str = ""
    _open: int | None = None  # the kind of tag that reasoning began with
    _depth: int = 0
    _after_close: str | None = None  # text after a closing tag while nested tags seem to be open
    _last: str = ""  # the last character that was processed
    _trim: bool = False

    def take(self, text: str) -> Split:
        """Return what the text so far adds to the answer and to the reasoning."""
        self._held += text
        end = self._undecided()
        ready, self._held = self._held[:end], self._held[end:]
        return self._decide(ready)

    def end(self) -> Split:
        """Return the rest. Reasoning without a closing tag extends to the end."""
        ready, self._held = self._held, ""
        answer, reasoning = self._decide(ready)
        if self._open is not None and self._after_close is not None:
            # The model mentioned an opening tag in its reasoning: the last closing tag is the real one.
            late, self._after_close = self._after_close, None
            self._open, self._depth = None, 0
            return Split(answer + self._spoken(late), reasoning)
        return Split(answer, reasoning)

    def _undecided(self) -> int:
        """Return the position of a possible start of a tag."""
        text = self._held
        lowered = _small(text)
        for at in range(max(0, len(text) - _LONGEST_TAG), len(text)):
            if text[at] not in _STARTS:
                continue
            tail = lowered[at:]
            if any(len(literal) > len(tail) and literal.startswith(tail) for literal in _LITERALS):
                return at
            if ">" not in tail and any(tail.startswith((f"{name} ", f"{name}\n")) for name in _WITH_ATTRIBUTES):
                return at
        return len(text)

    def _decide(self, text: str) -> Split:
        answer: list[str] = []
        reasoning: list[str] = []
        at = 0
        for tag in chain(_TAG.finditer(text), [None]):
            start = tag.start() if tag else len(text)
            plain = text[at:start]
            self._put(plain, answer, reasoning)
            if tag is None:
                break
            at = start
            if not self._is_quoted() and self._turn(tag):
                at = tag.end()
                self._last = ">"
        return Split("".join(answer), "".join(reasoning))

    def _put(self, text: str, answer: list[str], reasoning: list[str]) -> None:
        if not text:
            return
        self._last = text[-1]
        if self._open is None:
            answer.append(self._spoken(text))
            return
        reasoning.append(text)
        if self._after_close is not None:
            self._after_close += text

    def _spoken(self, text: str) -> str:
        if self._trim:
            text = text.lstrip()
        if text:
            self._trim = False
        return text

    def _is_quoted(self) -> bool:
        return self._last == "`"

    def _turn(self, tag: re.Match[str]) -> bool:
        """Process a tag; return whether it acts as a tag here, rather than as part of the text."""
        found = _small(tag.group())
        if tag["name"]:
            found = f"<{_small(tag['name'])}>"
        if (kind := _OPENING.get(found)) is not None:
            if self._open is None:
                self._open, self._depth, self._after_close = kind, 1, None
            elif kind == self._open:
                self._depth += 1
            else:
                return False
            return True
        kind = _CLOSING[found]
        if self._open is None:
            return found != "<|end|>"  # a closing tag alone is dropped: it is not meant for readers
        if kind != self._open:
            return False
        self._depth -= 1
        self._after_close = ""
        if self._depth == 0:
            self._open, self._after_close, self._trim = None, None, True
        return True


def split_reasoning(text: str) -> Split:
    """Split a whole text into answer and reasoning.

    If the first tag is a closing one, the model's template opened the reasoning, so all text before it is
    reasoning.

    Returns:
        The answer and the reasoning, both stripped of white space.
    """
    first = next((tag for tag in _TAG.finditer(text) if text[tag.start() - 1 : tag.start()] != "`"), None)
    before = ""
    if first is not None and (found := _small(first.group())) in _CLOSING and found != "<|end|>":
        before, text = text[: first.start()], text[first.end() :]
    splitter = ReasoningSplitter()
    parts = [splitter.take(text), splitter.end()]
    reasoning = "\n\n".join(
        part for part in (before.strip(), "".join(part.reasoning for part in parts).strip()) if part
    )
    return Split("".join(part.answer for part in parts).strip(), reasoning)


def reasoning_of(message: Any) -> str:
    """Return the reasoning of a message, wherever its model put it, or ``""`` if there is none."""
    parts = [
        str(block.get("reasoning") or "")
        for block in getattr(message, "content_blocks", None) or ()
        if block.get("type") == "reasoning"
    ]
    return "\n\n".join(part for part in (*parts, split_reasoning(str(message.text)).reasoning) if part)


def with_reasoning_apart(message: _Message) -> _Message:
    """Return the message with its answer as text and its reasoning in LangChain's field for it.

    If there is reasoning, ``content_blocks`` of the result starts with a ``reasoning`` block. A message without
    tags in its text is returned unchanged.
    """
    text = str(message.text)
    answer, found = split_reasoning(text)
    if not found and answer == text.strip():
        return message
    told = reasoning_of(message)
    content: str | list[str | dict[Any, Any]] = answer
    if isinstance(message.content, list):
        others = [
            part
            for part in message.content
            if isinstance(part, dict) and part.get("type") not in ("text", "reasoning")
        ]
        content = [*others, {"type": "text", "text": answer}] if others else answer
    kwargs = {**message.additional_kwargs, "reasoning_content": told}
    return message.model_copy(update={"content": content, "additional_kwargs": kwargs})


def _small(text: str) -> str:
    """Return ``text`` with ASCII letters in lower case; some other letters would become two characters."""
    return text.translate(_SMALL_LETTERS)
