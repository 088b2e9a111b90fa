"""A program for tests: a graph whose state holds classes of every kind, run and read in a separate process.

``python -m tests.redis.strict_graph URL PREFIX ALLOW``; langgraph reads LANGGRAPH_STRICT_MSGPACK when it is
imported.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from typing import Annotated, Any, NamedTuple

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel
from typing_extensions import TypedDict

from ecowas_lc.checkpoint import RedisSaver


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Step:
    text: str
    colour: Colour = Colour.RED


class Plan(BaseModel):
    steps: list[Step] = []
    by_name: dict[str, Step] = {}


class Point(NamedTuple):
    x: int
    y: int


class Hidden(BaseModel):
    """A class that no schema names."""

    x: int = 1


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    plan: Plan
    step: Step
    colour: Colour
    point: Point
    anything: Any


VALUES: dict[str, Any] = {
    "plan": Plan(steps=[Step("a")], by_name={"b": Step("b")}),
    "step": Step("c"),
    "colour": Colour.RED,
    "point": Point(1, 2),
}


def graph(checkpointer: Any, more: dict[str, Any]) -> Any:
    def node(state: State) -> Any:
        return {"messages": [HumanMessage("done", id="2")], **VALUES, **more}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(checkpointer=checkpointer)


def main(url: str, prefix: str, allow: str) -> None:
    """Print the result as JSON."""
    config: Any = {"configurable": {"thread_id": "t"}}
    outcome: dict[str, Any] = {}
    with RedisSaver.from_url(url, prefix=prefix, allow=json.loads(allow)) as saver:
        compiled = graph(saver, {})
        try:
            compiled.invoke({"messages": [HumanMessage("hello", id="1")]}, config)
            values = compiled.get_state(config).values
            outcome["equal"] = {name: values[name] == value for name, value in VALUES.items()}
            outcome["types"] = {name: type(values[name]).__name__ for name in VALUES}
        except Exception as error:
            outcome["error"] = f"{type(error).__name__}: {error}"
        try:
            graph(saver, {"anything": Hidden()}).invoke({"messages": []}, {"configurable": {"thread_id": "h"}})
        except Exception as error:
            outcome["hidden"] = f"{type(error).__name__}: {error}"
    print(json.dumps(outcome))


if __name__ == "__main__":
    # Under its own name, which the classes are stored with.
    from tests.redis import strict_graph  # noqa: PLW0406

    strict_graph.main(*sys.argv[1:])
