"""Requests and errors in a checkpoint: the node that waits or failed, the tool call, the choices."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from xxhash import xxh3_128_hexdigest

BRANCH = "branch:to:"
SENDS = "__pregel_tasks"
_INTERRUPT, _RESUME, _ERROR = "__interrupt__", "__resume__", "__error__"


@dataclass(frozen=True, slots=True)
class Request:
    """A request of an interrupt.

    Attributes:
        node: The step that waits, or ``""`` if unknown.
        tool: The tool to be called, or the group whose answer waits.
        arguments: The arguments of the call.
        choices: The possible decisions.
        text: The whole request on one line.
    """

    node: str
    text: str
    tool: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a step: the step (``""`` if unknown), and the error's text."""

    node: str
    text: str


def on_one_line(value: Any) -> str:
    """Return a value as one line of text."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}: {on_one_line(part)}" for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        value = " / ".join(map(on_one_line, value))
    return " ".join(str(value).split())


def requests_of(item: CheckpointTuple, *, is_over: bool) -> tuple[list[Request], list[Request]]:
    """Return the requests of a checkpoint's interrupts: those that wait, and those that were answered.

    ``is_over`` says that another checkpoint follows, so that nothing is waiting any more.
    """
    writes = item.pending_writes or []
    names = tasks_of(item)
    resumed = {task for task, name, _ in writes if name == _RESUME}
    waiting: list[Request] = []
    answered: list[Request] = []
    for task, name, value in writes:
        if name != _INTERRUPT:
            continue
        for one in value if isinstance(value, (list, tuple)) else [value]:
            found = read_request(getattr(one, "value", one), names.get(task, ""), str(getattr(one, "id", "")))
            (answered if is_over or task in resumed else waiting).extend(found)
    return waiting, answered


def failures_of(item: CheckpointTuple) -> list[Failure]:
    """Return the errors of the steps after a checkpoint."""
    names = tasks_of(item)
    return [
        Failure(names.get(task, ""), on_one_line(value))
        for task, name, value in item.pending_writes or ()
        if name == _ERROR
    ]


def next_nodes(item: CheckpointTuple) -> tuple[str, ...]:
    """Return the nodes that run after a checkpoint."""
    values = item.checkpoint["channel_values"]
    named = [name.removeprefix(BRANCH) for name in values if name.startswith(BRANCH)]
    return tuple(dict.fromkeys([*named, *(send.node for send in _sends(item))]))


def tasks_of(item: CheckpointTuple) -> dict[str, str]:
    """Return the node of each task of a checkpoint, by the task's id.

    Checkpoints do not store the names of tasks, but ids that langgraph computes from the checkpoint and the name.
    If no computed id matches, and only one node could have run, it is that node.
    """
    ids = {task for task, _, _ in item.pending_writes or ()}
    found = {task: name for task, name in _ids_of(item) if task in ids}
    left = ids - found.keys()
    nodes = set(next_nodes(item)) - set(found.values())
    if len(nodes) == 1:
        found |= dict.fromkeys(left, nodes.pop())
    return found


def _ids_of(item: CheckpointTuple) -> Iterator[tuple[str, str]]:
    try:
        checkpoint = binascii.unhexlify(item.checkpoint["id"].replace("-", ""))
        step = str(int(item.metadata.get("step", -2)) + 1)
    except (ValueError, TypeError):
        return
    above = str(item.config.get("configurable", {}).get("checkpoint_ns", ""))
    inner = f"{above}|" if above else ""
    for name in item.checkpoint["channel_values"]:
        node = name.removeprefix(BRANCH) if name.startswith(BRANCH) else name
        yield _id(checkpoint, f"{inner}{node}", step, node, "__pregel_pull", name), node
    for index, send in enumerate(_sends(item)):
        yield _id(checkpoint, f"{inner}{send.node}", step, send.node, "__pregel_push", str(index)), send.node


def _id(namespace: bytes, *parts: str) -> str:
    digest = xxh3_128_hexdigest(namespace + "".join(parts).encode("utf-8", "surrogatepass"))
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))


def _sends(item: CheckpointTuple) -> Sequence[Any]:
    sends = item.checkpoint["channel_values"].get(SENDS) or ()
    return [send for send in sends if hasattr(send, "node")] if isinstance(sends, (list, tuple)) else ()


def read_request(value: Any, node: str, identity: str) -> Iterator[Request]:
    """Yield the requests of an interrupt, such as LangChain's approval of tool calls or a group's answer."""
    calls = value.get("action_requests") if isinstance(value, Mapping) else None
    if isinstance(calls, (list, tuple)) and calls:
        configs = value.get("review_configs") or ()
        choices = {
            str(one.get("action_name")): tuple(map(str, one.get("allowed_decisions") or ()))
            for one in configs
            if isinstance(one, Mapping)
        }
        for call in calls:
            if isinstance(call, Mapping):
                tool = on_one_line(call.get("name") or call.get("action") or "tool")
                yield _call(
                    node, tool, call.get("args") or call.get("arguments") or {}, choices.get(tool, ()), identity
                )
        return
    if isinstance(value, Mapping) and isinstance(value.get("actions"), (list, tuple)) and "answer" in value:
        choices_ = tuple(map(str, value["actions"]))
        arguments = tuple((key, str(value.get(key, ""))) for key in ("question", "answer"))
        text = f"{on_one_line(value['answer'])} [{' / '.join(choices_)}]"
        yield Request(
            node, text, on_one_line(value.get("name") or value.get("group") or ""), arguments, choices_, identity
        )
        return
    if isinstance(value, Mapping) and (name := value.get("tool") or value.get("action")) and isinstance(name, str):
        given = value.get("args") or value.get("arguments") or value.get("tool_input") or {}
        allowed = value.get("actions") or value.get("choices") or value.get("allowed_decisions") or ()
        choices_ = tuple(map(str, allowed)) if isinstance(allowed, (list, tuple)) else ()
        yield _call(node, on_one_line(name), given, choices_, identity)
        return
    allowed = (value.get("choices") or value.get("options") or ()) if isinstance(value, Mapping) else ()
    choices_ = tuple(map(str, allowed)) if isinstance(allowed, (list, tuple)) else ()
    yield Request(node, on_one_line(value), choices=choices_, id=identity)


def _call(node: str, tool: str, given: Any, choices: tuple[str, ...], identity: str) -> Request:
    named = given if isinstance(given, Mapping) else {"": given}
    arguments = tuple((str(key), on_one_line(one)) for key, one in named.items())
    inner = ", ".join(f"{key}: {text}" if key else text for key, text in arguments)
    shown = f"{tool}({inner})" + (f" [{' / '.join(choices)}]" if choices else "")
    return Request(node, shown, tool, arguments, choices, identity)
