"""A thread's steps and the state at one of them, as their page shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecowas_lc.drawing.thread_layout import Moment, lanes_of
from ecowas_lc.web import charts, views
from ecowas_lc.web.reader import Reader
from ecowas_lc.web.service import LONGEST_QUESTION

if TYPE_CHECKING:
    pass

_STEPS_A_PAGE = 20  # each takes 20 ms to decode in a thread of 500 turns


async def thread_of(one: Reader, session: str, step: str | None, before: str | None) -> dict[str, Any]:
    """Return a thread's steps with their graph, and one step in detail."""
    texts, speakers = one.texts, one.speakers
    found = await one.service.timeline(one.by, session, limit=_STEPS_A_PAGE, before=before)
    steps = found["steps"]
    numbers = {each["checkpoint"]: place for place, each in enumerate(reversed(steps), start=1)}
    by_id = {each["checkpoint"]: each for each in steps}
    moments = [
        Moment(
            number=numbers[each["checkpoint"]],
            parent=numbers.get(each["parent"]),
            config={"configurable": {"checkpoint_id": each["checkpoint"]}},
            source=str(each["source"]),
            ran=(),
            said=(),
            waiting=tuple(draft["group"] for draft in each["waiting"]),
            answered=(),
            failed=(),
            next=tuple(each["next"]),
            is_cut=bool(each["parent"]) and each["parent"] not in numbers,
        )
        for each in reversed(steps)
    ]
    lanes = lanes_of(moments)
    chosen = step or found["head"]

    def href(checkpoint: str) -> str:
        return one.url("/thread", session=session, step=checkpoint, before=before)

    rows = []
    for moment, each in zip(reversed(moments), steps, strict=True):
        parent = by_id.get(each["parent"])
        said = parent is None or (each["messages"], each["last"]) != (parent["messages"], parent["last"])
        lines = []
        if each["last"] and said:
            speaker = each["speaker"]
            name = texts("thread.user") if speaker == "user" else speakers[speaker].name
            lines = [{"who": name, "text": each["last"]}]
        rows.append(
            {
                "rails": charts.rails(moment, moments, lanes),
                "href": href(each["checkpoint"]),
                "selected": each["checkpoint"] == chosen,
                "title": _step_title(one, each, parent),
                "at": views.moment_of(each["at"], texts),
                "lines": lines,
                "waits": bool(each["waiting"]),
                "failed": "",
            }
        )
    detail = await _step(one, session, chosen, by_id) if steps and chosen else None
    older = one.url("/thread", session=session, before=steps[-1]["checkpoint"])
    return {
        "session": session,
        "moments": rows,
        "newer": one.url("/thread", session=session) if before else None,
        "older": older if len(steps) == _STEPS_A_PAGE else None,
        "step": detail,
        "most_characters": LONGEST_QUESTION,
    }


def _step_title(one: Reader, step: Mapping[str, Any], parent: Mapping[str, Any] | None) -> str:
    texts = one.texts
    if step["source"] in ("input", "fork", "update"):
        return texts(f"thread.step_{step['source']}")
    ran = [name for name in (parent or {}).get("next", ()) if not name.startswith("__")]
    return ", ".join(_node_name(one, name) for name in ran) if ran else texts("thread.step_loop")


def _node_name(one: Reader, node: str) -> str:
    known = f"node.{node}"
    return one.texts(known) if one.texts.has(known) else one.speakers[node].name


def _value_name(one: Reader, name: str) -> str:
    known = f"thread.value_{name}"
    return one.texts(known) if one.texts.has(known) else name


async def _step(one: Reader, session: str, checkpoint: str, known: Mapping[str, Any]) -> dict[str, Any]:
    texts, speakers = one.texts, one.speakers
    state = await one.service.state(one.by, session, checkpoint)
    changed = await one.service.diff(one.by, session, after=checkpoint)
    added = [views.message_line(each, speakers, texts) for each in changed["added"]]
    removed = [views.message_line(each, speakers, texts) for each in changed["removed"]]
    for pair in changed["replaced"]:
        removed.append(views.message_line(pair["before"], speakers, texts))
        added.append(views.message_line(pair["after"], speakers, texts))
    changes = []
    if added or removed:
        changes.append(
            {"name": texts("sessions.messages_of"), "kind": "edited", "removed": removed, "added": added}
        )
    for name, ends in changed["changed"].items():
        old, new = ends["before"], ends["after"]
        kind = "new" if not old else "gone" if not new else "edited"
        changes.append(
            {
                "name": _value_name(one, name),
                "kind": kind,
                "removed": [views.value_text(old)] if old else [],
                "added": [views.value_text(new)] if new else [],
            }
        )
    values = []
    if state["messages"]:
        text = "\n\n".join(views.message_line(each, speakers, texts) for each in state["messages"][-100:])
        values.append(
            {"name": texts("sessions.messages_of"), "size": texts.number(len(state["messages"])), "text": text}
        )
    values += [
        {"name": _value_name(one, name), "size": "", "text": views.value_text(state[name])}
        for name in ("decision", "reports", "synthesis", "summary")
        if state.get(name)
    ]
    return {
        "id": checkpoint,
        "title": _step_title(one, state, known.get(state["parent"])),
        "next": ", ".join(_node_name(one, name) for name in state["next"]),
        "changes": changes,
        "values": values,
    }
