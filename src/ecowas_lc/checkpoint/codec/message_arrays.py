"""Conversion of LangChain messages to short arrays, and back without validating them again.

An array is ``[class code, content, id]`` if all other fields have their defaults. If not, the other fields follow
in the order of :data:`SPECS`, with two maps at the end if needed: further fields of the class, and extra ones.
Content ``nil`` stands for the text of the array's first reference. A message is built directly (about 1 µs;
pydantic's validation takes 6) with the data it held when it was written. It may have been changed in place since
it was validated, and that must not make a thread unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Any, NamedTuple

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)

from ecowas_lc.errors import CorruptDataError, NotSerializableError

# The stored class codes: never reorder, only append.
_CLASSES: tuple[type[BaseMessage], ...] = (
    HumanMessage,
    AIMessage,
    SystemMessage,
    ToolMessage,
    ChatMessage,
    FunctionMessage,
    RemoveMessage,
    HumanMessageChunk,
    AIMessageChunk,
    SystemMessageChunk,
    ToolMessageChunk,
    ChatMessageChunk,
    FunctionMessageChunk,
)
# The order of the fields after content and id in the storage format, which differs from langchain-core's.
_COMMON = ("additional_kwargs", "response_metadata", "name")
_FIELDS: dict[type[BaseMessage], tuple[str, ...]] = {
    AIMessage: ("tool_calls", "invalid_tool_calls", "usage_metadata"),
    AIMessageChunk: (
        "tool_calls",
        "invalid_tool_calls",
        "usage_metadata",
        "tool_call_chunks",
        "chunk_position",
    ),
    ToolMessage: ("tool_call_id", "artifact", "status"),
    ToolMessageChunk: ("tool_call_id", "artifact", "status"),
    ChatMessage: ("role",),
    ChatMessageChunk: ("role",),
}


_NEVER: Any = object()  # equals no value, so that a required field is always written


class Spec(NamedTuple):
    """The stored form of one message class."""

    code: int
    cls: type[BaseMessage]
    type_text: str
    names: tuple[str, ...]  # of the fields after content and id
    get: Callable[[dict[str, Any]], tuple[Any, ...]]  # all of those at once
    defaults: tuple[Any, ...]
    fields: frozenset[str]
    template: dict[str, Any]  # every field of the class in its order; required ones are None
    dicts: tuple[str, ...]  # fields whose default must be a new object each time
    lists: tuple[str, ...]
    size: int  # the number of fields, unless langchain-core has added some
    all_default: bool  # no field after content and id is required


def _spec(code: int, cls: type[BaseMessage]) -> Spec:
    names = _COMMON + _FIELDS.get(cls, ())
    # Fields that a later langchain-core adds are in the template, and stored as "others": see pack_array.
    template = {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in cls.model_fields.items()
    }
    defaults = tuple(_NEVER if cls.model_fields[name].is_required() else template[name] for name in names)
    return Spec(
        code,
        cls,
        cls.model_fields["type"].default,
        names,
        itemgetter(*names),
        defaults,
        frozenset({"content", "id", "type", *names}),
        template,
        tuple(name for name, value in template.items() if isinstance(value, dict)),
        tuple(name for name, value in template.items() if isinstance(value, list)),
        len(names) + 3,
        _NEVER not in defaults,
    )


SPECS = {cls: _spec(code, cls) for code, cls in enumerate(_CLASSES)}
BY_CODE = tuple(SPECS.values())


def is_simple(message: BaseMessage, state: dict[str, Any], spec: Spec) -> bool:
    """Return whether a message (``state`` is its ``__dict__``) has only content and id, and defaults otherwise."""
    try:
        return (
            len(state) == spec.size
            and spec.get(state) == spec.defaults
            and state["type"] == spec.type_text
            and not message.__pydantic_extra__
        )
    except KeyError:  # constructed without validation
        return False


def pack_array(message: BaseMessage, spec: Spec) -> list[Any]:
    """Return a message as its array, with the content included.

    Raises:
        NotSerializableError: A field is missing, its content is ``None``, or its id can't be an id.
    """
    state = message.__dict__
    try:
        content, id_ = state["content"], state["id"]
        if content is None:
            raise NotSerializableError(f"A {spec.cls.__name__} whose content is None can't be stored. Use ''.")
        if id_ is not None and type(id_) is not str and not isinstance(id_, Hashable):
            raise NotSerializableError(f"A message's id must be text, not {type(id_).__name__}.")
        if is_simple(message, state, spec):
            return [spec.code, content, id_]
        array = [spec.code, content, id_, *spec.get(state)]
        type_text = state["type"]
    except KeyError as error:
        raise NotSerializableError(f"A {spec.cls.__name__} without its {error} can't be stored.") from error
    extra = message.__pydantic_extra__
    if len(state) == spec.size and type_text == spec.type_text and not extra:
        return array
    others = {name: value for name, value in state.items() if name not in spec.fields}
    if type_text != spec.type_text:
        others["type"] = type_text
    return [*array, others, extra or {}]


def unpack_array(array: Any, content: str | None) -> BaseMessage:
    """Return the message of an array; ``content`` is the text that a ``nil`` stands for.

    Raises:
        CorruptDataError: It is not a message's array.
    """
    try:
        code, inline, id_, *rest = array
        spec = BY_CODE[code] if type(code) is int and code >= 0 else None
        hash(id_)  # ids identify messages, so they must be hashable
    except (TypeError, ValueError, IndexError):
        spec = None
    if spec is None:
        raise CorruptDataError("A stored message is not in the format of messages.")
    state = spec.template.copy()
    for name in spec.dicts:
        state[name] = {}
    for name in spec.lists:
        state[name] = []
    state["content"] = content if inline is None else inline
    state["id"] = id_
    extra: dict[str, Any] = {}
    if rest:
        count = len(spec.names)
        tail = rest[count:]
        if len(rest) < count or len(tail) not in (0, 2) or not all(type(part) is dict for part in tail):
            raise CorruptDataError("A stored message is not in the format of messages.")
        state.update(zip(spec.names, rest, strict=False))
        if tail:
            extra = tail[1]
            for name, value in tail[0].items():
                # Fields that this langchain-core does not know become extra fields.
                (state if name in spec.template else extra)[name] = value
    elif not spec.all_default:
        raise CorruptDataError("A stored message is not in the format of messages.")
    return restore(spec, state, extra)


def restore(spec: Spec, state: dict[str, Any], extra: dict[str, Any]) -> BaseMessage:
    """Return a message that holds this state, without validation."""
    message = spec.cls.__new__(spec.cls)
    put = object.__setattr__
    put(message, "__dict__", state)
    put(message, "__pydantic_fields_set__", set(state) if not extra else {*state, *extra})
    put(message, "__pydantic_extra__", extra)
    put(message, "__pydantic_private__", None)
    return message
