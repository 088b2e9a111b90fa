"""The allowlist: a name in storage imports nothing, and a refusal gives the line that allows the class."""

from __future__ import annotations

import dataclasses
import enum
import re
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import ormsgpack
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from ecowas_lc.checkpoint.codec.allowlist import Allowlist, spelt
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import ConfigurationError, CorruptDataError, TypeNotAllowedError

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Step:
    text: str


class Held(TypedDict):
    steps: list[Step]


class Plan(BaseModel):
    first: Step
    others: dict[str, list[Step | None]] = {}
    colour: Annotated[Colour, "x"] = Colour.RED
    held: Held | None = None
    mode: Literal["a"] = "a"
    parts: list[Plan] = []


class Box(BaseModel, Generic[T]):
    item: T


class outer:  # noqa: N801
    """A class in a class whose name looks like a module's."""

    @dataclasses.dataclass
    class Inner:
        x: int


class Outer:
    @dataclasses.dataclass
    class Inner:
        x: int


VALUE = Plan(
    first=Step("a"),
    others={"k": [Step("b"), None]},
    held={"steps": [Step("c")]},
    parts=[Plan(first=Step("d"))],
)


def stored(name: str, data: Any = ()) -> bytes:
    """A blob with an object of this name, as an attacker might have written it."""
    return b"\x00\x00" + ormsgpack.packb(ormsgpack.Ext(2, ormsgpack.packb([name, data])))


def line_of(error: pytest.ExceptionInfo[BaseException]) -> Any:
    """The argument for ``allow`` in the message, evaluated."""
    found = re.search(r"allow=(\[.*?\])(?!\])", str(error.value))
    assert found, error.value
    return eval(found[1], globals())


@pytest.mark.parametrize(
    "value", [Step("a"), Colour.RED, Outer.Inner(1), outer.Inner(1), Box[int](item=1), Box(item=2)], ids=repr
)
def test_the_line_works_as_it_is_given(value: Any) -> None:
    """The line in the refusal, added unchanged, makes the value storable and readable in a new process."""
    with pytest.raises(TypeNotAllowedError) as refused:
        Serializer().dump(value)
    allow = line_of(refused)
    assert Serializer(allow).load(Serializer(allow).dump(value)) == value


def test_the_line_for_a_class_in_a_function() -> None:
    """A class that can't be found by name can be passed itself, and the refusal says so."""

    @dataclasses.dataclass
    class Local:
        x: int

    with pytest.raises(TypeNotAllowedError, match=r"the class itself, allow=\[Local\]"):
        Serializer().dump(Local(1))
    for allow in ("any", [f"{Local.__module__}:{Local.__qualname__}"]):
        with pytest.raises(TypeNotAllowedError, match=r"the class itself: allow=\[Local\]"):
            Serializer(allow).dump(Local(1))
    strict = Serializer([Local])
    assert strict.load(strict.dump(Local(1))) == Local(1)


@pytest.mark.parametrize(
    "allow", [[Plan], [f"{__name__}.Plan"], [f"{__name__}:Plan"], [(__name__, "Plan")], "any"]
)
def test_what_an_allowed_class_mentions(allow: Any) -> None:
    """Classes in the annotations of an allowed one come with it, by class or by name, written or only read."""
    blob = Serializer(allow).dump(VALUE)
    assert Serializer(allow).load(blob) == VALUE


def test_names_are_not_imported_on_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stored name outside the allowlist is refused by name, and its module is not imported."""
    (tmp_path / "danger_zone.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in (
        "os:system",
        "danger_zone:Thing",
        "builtins:eval",
        "subprocess:Popen",
        f"{__name__}:Step",
        "a:b:c",
    ):
        for serializer in (Serializer(), Serializer([Plan.__module__ + ".Colour", Plan.__name__ + ".x"])):
            dotted = re.escape(name.replace(":", "."))
            with pytest.raises(TypeNotAllowedError, match=f"({dotted}|{name}).* was not imported"):
                serializer.load(stored(name))
    assert "danger_zone" not in sys.modules


def test_reading_refused_says_the_line_too() -> None:
    """The line in the message of a refused read makes the value readable."""
    blob = Serializer([Outer.Inner]).dump(Outer.Inner(1))
    with pytest.raises(TypeNotAllowedError) as refused:
        Serializer().load(blob)
    assert Serializer(line_of(refused)).load(blob) == Outer.Inner(1)


def test_any_imports_and_still_makes_no_calls() -> None:
    """``allow="any"`` finds classes by name, but still refuses classes that are not data."""
    serializer = Serializer("any")
    assert serializer.load(serializer.dump(VALUE)) == VALUE
    for name in ("os:system", "builtins:eval"):
        with pytest.raises(TypeNotAllowedError, match="not a class"):
            serializer.load(stored(name, ["true"]))
    with pytest.raises(TypeNotAllowedError, match="can't be read back"):
        serializer.load(stored("subprocess:Popen", ["true"]))
    for name in ("nowhere_at_all:Thing", f"{__name__}:Gone", ":", "os:", ":x"):
        with pytest.raises((CorruptDataError, TypeNotAllowedError)):
            serializer.load(stored(name))


def test_a_class_that_is_gone() -> None:
    """An allowed name that nothing has any more is named in the error."""
    with pytest.raises(CorruptDataError, match="Gone, which no longer exists"):
        Serializer([f"{__name__}.Gone"]).load(stored(f"{__name__}:Gone"))


def test_an_object_of_a_class_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redefined class, as in a notebook, is not mistaken for the old one."""
    serializer = Serializer([f"{__name__}.Step"])
    old = Step("a")
    serializer.dump(old)
    renewed = dataclasses.make_dataclass("Step", [("text", str)], namespace={"__module__": __name__})
    renewed.__module__ = __name__
    monkeypatch.setattr(sys.modules[__name__], "Step", renewed)
    assert serializer.load(serializer.dump(renewed("b"))).text == "b"


def test_extending_copies() -> None:
    """An allowlist extended for one graph leaves the other as it was."""
    base = Serializer()
    wider = base.with_allowed({(__name__, "Step"), (__name__, "Colour", "extra")})
    assert wider.load(wider.dump([Step("a"), Colour.RED])) == [Step("a"), Colour.RED]
    with pytest.raises(TypeNotAllowedError):
        base.dump(Step("a"))
    assert base.with_msgpack_allowlist([Step]).load(wider.dump(Step("b"))) == Step("b")


@pytest.mark.parametrize("allow", ["Plan", "a.B", [1], [None], ["Plan"], [("a",)], [("a", 1)]])
def test_what_is_no_allowlist(allow: Any) -> None:
    """An entry that names nothing is refused at once."""
    with pytest.raises(ConfigurationError, match="allow"):
        Allowlist(allow)


def test_spelling() -> None:
    """Names are written with dots if they can be read back so, with a colon otherwise."""
    assert spelt("my.module:Plan") == "my.module.Plan"
    assert spelt("my.module:Outer.Inner") == "my.module.Outer.Inner"
    assert spelt("my.module:outer.Inner") == "my.module:outer.Inner"
    assert spelt("my.Module:Plan") == "my.Module:Plan"
    assert spelt("__main__:Plan") == "__main__.Plan"


def test_a_name_whose_module_fails_to_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An allowed module that can't be imported is an error of ours, which says why."""
    (tmp_path / "half_made.py").write_text(textwrap.dedent("import nowhere_at_all_x"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CorruptDataError):
        Serializer(["half_made.Thing"]).load(stored("half_made:Thing"))
