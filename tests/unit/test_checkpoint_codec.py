"""Values to bytes and back: exact about types, and refusing what could not be read back."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import ipaddress
import math
import pathlib
import re
import sys
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.store.base import GetOp, Item, SearchItem
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, SecretStr
from pydantic.dataclasses import dataclass as pydantic_dataclass

from ecowas_lc.checkpoint.codec.elements import Collector, Digests, Elements, pack_blob
from ecowas_lc.checkpoint.codec.serializer import Serializer
from ecowas_lc.errors import CorruptDataError, NotSerializableError, TypeNotAllowedError

serializer = Serializer()


def through(value: Any, allow: Any = ()) -> Any:
    made = Serializer(allow) if allow else serializer
    return made.load(made.dump(value))


def through_sharing(value: Any) -> Any:
    shared = Collector(b"", None, Digests(), b"")
    blob = serializer.dump(value, shared)
    stored = {digest: shared.stored(digest) for digest in list(shared.bodies)}
    return serializer.load(blob, Elements(stored, b"", None))


def same(a: Any, b: Any) -> bool:
    """Equal and of the same types all the way down; NaN equals NaN, as nothing else could be tested."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.items(), b.items()))
    if isinstance(a, (set, frozenset)):
        return a == b and sorted(map(repr, map(type, a))) == sorted(map(repr, map(type, b)))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, BaseModel):
        parts = ["__dict__", "__pydantic_private__", "__pydantic_extra__"]
        # Messages are read back as validation would make them: with every field set.
        parts += [] if isinstance(a, BaseMessage) else ["model_fields_set"]
        return all(same(getattr(a, part), getattr(b, part)) for part in parts)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, each.name), getattr(b, each.name)) for each in dataclasses.fields(a))
    if isinstance(a, Send):
        return a.node == b.node and same(a.arg, b.arg)
    return bool(a == b)


class Colour(enum.Enum):
    RED = 1
    PAIR = (1, 2)


class Word(enum.StrEnum):
    YES = "yes"


class Level(enum.IntEnum):
    HIGH = 3


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any


class Single(collections.namedtuple("Single", "a b")):
    def __new__(cls, a: int) -> Single:
        return super().__new__(cls, a, 2 * a)


@dataclasses.dataclass
class Plan:
    steps: list[Any]
    done: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    name: str


@dataclasses.dataclass
class Grown:
    name: str
    notes: list[int] = dataclasses.field(default_factory=list)


class Needy(BaseModel):
    must: int


@dataclasses.dataclass
class Counting:
    x: int
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, scale: int) -> None:
        self.x += scale
        self.derived = [self.x]

    @functools.cached_property
    def lock(self) -> Any:
        return threading.Lock()


class Holding(BaseModel):
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


@pydantic_dataclass
class Checked:
    x: int


class Model(BaseModel):
    x: float = 1.0
    when: dt.datetime | None = None
    inner: Any = None
    _seen: int = PrivateAttr(default=0)


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    array: Any = None


class Aliased(BaseModel):
    first: int = Field(alias="second", default=1)
    second_: int = Field(alias="first", default=2)


class Table(RootModel[dict[str, int]]):
    pass


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Mapping(dict):  # type: ignore[type-arg]
    pass


ALLOW = [
    Colour,
    Word,
    Level,
    Rights,
    Point,
    Single,
    Plan,
    Frozen,
    Counting,
    Checked,
    Model,
    Loose,
    Aliased,
    Table,
]

UTC = dt.UTC
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**70),
    st.floats(allow_nan=True),
    st.text(),
    st.text(alphabet=st.characters(categories=["Cs", "Ll"])),
    st.text(min_size=150, max_size=170),
    st.binary(),
    st.binary().map(bytearray),
    st.decimals(allow_nan=False),
    st.fractions().map(lambda value: value.numerator),
    st.complex_numbers(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones()),
    st.times(),
    st.timedeltas(),
    st.ip_addresses(),
    st.sampled_from([*Colour, *Word, *Level, Rights.READ | Rights.WRITE]),
    st.builds(Frozen, st.text()),
    st.builds(pathlib.Path, st.text(alphabet="ab/.", min_size=1)),
    st.binary(max_size=32).map(lambda raw: np.frombuffer(raw, dtype=np.uint8).copy()),
    st.floats(width=32).map(np.float32),
)
HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.text(alphabet=st.characters(categories=["Cs", "Ll"])),
    st.binary(),
    st.tuples(st.integers(), st.text()),
    st.frozensets(st.integers()),
    st.sampled_from([*Colour, *Word, *Level]),
    st.builds(Frozen, st.text()),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.text(), inner),
        st.dictionaries(HASHABLE, inner),
        st.lists(inner).map(lambda items: collections.deque(items, maxlen=50)),
        st.dictionaries(st.text(), inner).map(collections.OrderedDict),
        st.dictionaries(st.text(), inner).map(lambda items: collections.defaultdict(list, items)),
        st.builds(Plan, st.lists(inner), st.integers()),
        st.builds(Point, st.integers(), inner),
        st.builds(lambda value: Model(inner=value), inner),
        st.builds(Send, st.text(), inner),
        st.builds(lambda value: Command(update={"a": value}), inner),
        st.builds(Overwrite, inner),
    ),
    max_leaves=12,
)


@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_every_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    """Whatever is written is read back equal, type by type, with and without shared elements."""
    assert same(through(value, ALLOW), value)
    strict = Serializer(ALLOW)
    shared = Collector(b"", None, Digests(), b"")
    blob = strict.dump(value, shared)
    stored = {digest: shared.stored(digest) for digest in list(shared.bodies)}
    assert same(strict.load(blob, Elements(stored, b"", None)), value)


EXACT = {
    "an int beyond Python's limit of digits": 10**5000,
    "ends of the integers that msgpack has": [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1],
    "floats that are no numbers": [math.inf, -math.inf, math.nan, -0.0],
    "bytearrays in a tuple, a set of keys, a long list and deep down": [
        (bytearray(b"a"),),
        {1: bytearray(b"b")},
        [bytearray(b"c")] * 100,
        [[[[[[[[bytearray(b"d")]]]]]]]],
    ],
    "lone surrogates, short, long and as keys": ["\ud800", "\udfff" * 300, {"\ud800": "\0"}],
    "keys that are not text": {None: 1, 1: 2, (1, "a"): 3, frozenset({1}): 4, b"x": 5, 1.5: 6},
    "keys that look alike": {1: "int", "1": "text", b"1": "bytes", (1,): "tuple"},
    "maps that look like markers": [
        {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "HumanMessage"], "kwargs": {}},
        {"__bytes__": "AA=="},
        {"__type__": "set", "data": [1]},
        ["tuple", [1, 2]],
        ["set", [1]],
    ],
    "what is empty": [(), [], {}, set(), frozenset(), "", b"", bytearray(), collections.deque()],
    "times with folds and zones": [
        dt.datetime(2024, 10, 27, 1, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1),
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, minutes=-30), "X")),
        dt.time(1, 2, 3, 4, tzinfo=UTC, fold=1),
        dt.datetime.max,
    ],
    "numpy": [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3)),
        np.zeros(()),
        np.array(["a", "bcd"]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.float64(1.5),
        np.str_("x"),
        np.bool_(True),
        np.datetime64("2020-01-01"),
    ],
    "collections": [
        collections.Counter("abracadabra"),
        collections.OrderedDict([("b", 1), ("a", 2)]),
        collections.defaultdict(int, {"a": 1}),
        collections.deque([1, 2, 3], maxlen=3),
    ],
    "patterns, paths, addresses, secrets": [
        re.compile("a+", re.IGNORECASE),
        re.compile(rb"\x00"),
        pathlib.Path("/var/lib"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_interface("::1/64"),
        SecretStr("s3cret"),
        uuid.UUID(int=0),
        decimal.Decimal("1.10"),
    ],
    "langgraph's own": [
        Send("node", {"a": 1}),
        Send("node", [HumanMessage("x", id="1")]),
        Command(update={"a": (1,)}, goto=[Send("x", 1)], resume={"k": 1}),
        Interrupt(value={"q": "?"}, id="abc"),
        Overwrite([1]),
        GetOp(("a", "b"), "k"),
        Document(page_content="x", metadata={"a": (1, 2)}, id="d"),
    ],
    "messages at any depth and in lists of any length": [
        [[[[[[[HumanMessage("x" * 200, id="1")]]]]]]],
        [*[HumanMessage("x", id="1")] * 70, None],
    ],
}


@pytest.mark.parametrize("value", EXACT.values(), ids=EXACT.keys())
def test_comes_back_exact(value: Any) -> None:
    """Unusual values of Python's own types are read back unchanged."""
    assert same(through(value), value)
    assert same(through_sharing(value), value)


def test_a_store_item_comes_back() -> None:
    """Items of langgraph's store keep their times and their namespace's type."""
    now = dt.datetime.now(UTC)
    item = Item(value={"a": 1}, key="k", namespace=("a", "b"), created_at=now, updated_at=now)
    back = through(item)
    assert back == item
    assert back.namespace == ("a", "b")


def test_numbers_keep_their_type() -> None:
    """1, True and 1.0 are equal, and each keeps its type."""
    assert [type(value) for value in through([1, True, 1.0, 0, False, 0.0])] == [int, bool, float] * 2


class TestClasses:
    """Dataclasses, models, enums and named tuples are read back with exactly their contents."""

    def test_no_constructor_runs(self) -> None:
        """A dataclass whose ``__post_init__`` changes fields is read back unchanged, with derived attributes."""
        plan = Counting(1, scale=5)
        plan.derived.append("later")
        assert plan.lock
        back = through(plan, [Counting])
        assert (back.x, back.derived) == (6, [6, "later"])
        assert "lock" not in back.__dict__

    def test_changed_in_place(self) -> None:
        """Attributes assigned without validation, and private attributes, are state too."""
        model = Model(inner=[Plan([1])])
        model.x = 1  # type: ignore[assignment]
        model._seen = 7
        back = through(model, [Model, Plan])
        assert type(back.x) is int
        assert back == model
        assert back._seen == 7
        assert back.model_fields_set == model.model_fields_set

    def test_pydantic_times(self) -> None:
        """The time zone that pydantic gives to parsed times can be stored, and is read back."""
        model = Model.model_validate({"when": "2024-05-01T12:00:00+02:00"})
        back = through(model, [Model])
        assert back == model
        assert type(back.when.tzinfo) is type(model.when.tzinfo)  # type: ignore[union-attr]

    def test_model_kinds(self) -> None:
        """Extra fields, crossed aliases, arrays and root models are read back equal."""
        crossing = Aliased(second=10, first=20)  # type: ignore[call-arg]
        loose = Loose(array=1, more={"a": (1,)})  # type: ignore[call-arg]
        for value in (crossing, loose, Table({"root": 1}), Checked(3), Frozen("a"), Single(4)):
            assert same(through(value, ALLOW), value)
        array = through(Loose(array=np.arange(3)), [Loose]).array
        assert array.tolist() == [0, 1, 2]

    def test_a_class_that_grew(self) -> None:
        """A field that the class got later has its default; one without a default is named."""
        blob = Serializer([Plan]).dump(Plan([1]))
        old = blob.replace(b"done", b"none")  # a field that is no longer there
        assert Serializer([Plan]).load(old) == Plan([1], 0)
        with pytest.raises(CorruptDataError, match="'steps', which the class now requires"):
            Serializer([Plan]).load(blob.replace(b"steps", b"sleps"))
        grown = Serializer([Grown]).dump(Grown("a", [1]))
        assert Serializer([Grown]).load(grown.replace(b"notes", b"noted")) == Grown("a", [])
        model = Serializer([Aliased]).dump(Aliased())
        assert Serializer([Aliased]).load(model.replace(b"second_", b"second9")).second_ == 2
        needy = Serializer([Needy]).dump(Needy(must=1))
        with pytest.raises(CorruptDataError, match="'must', which the class now requires"):
            Serializer([Needy]).load(needy.replace(b"must", b"most"))


REFUSED = {
    "a class": int,
    "a function": len,
    "an exception": ValueError("x"),
    "a lock": threading.Lock(),
    "a lambda": lambda: 1,
    "a memoryview": [memoryview(b"x")],
    "a subclass of text": Text("x"),
    "a subclass of text as a key": {Text("x"): 1},
    "a subclass of int": Number(1),
    "a subclass of dict": Mapping(a=1),
    "a range": range(3),
    "a generator": (x for x in ()),
    "a defaultdict with a factory of one's own": collections.defaultdict(lambda: 1),
    "objects in numpy": np.array([object()]),
    "records in numpy": np.zeros(1, dtype=[("a", "i4")]),
    "a masked array": np.ma.masked_array([1, 2], mask=[True, False]),
    "broken text before a lock": ["\ud800", threading.Lock()],
    "an enum whose value does not find it": enum.Enum("Lost", {"NAN": math.nan}).NAN,  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x,), lambda x: {"a": [x]}], ids=["bare", "tuple", "deep"]
)
def test_what_could_not_come_back_is_refused(value: Any, wrap: Any) -> None:
    """A value whose type could not be read back is refused when it is written, by an error of ours."""
    with pytest.raises(NotSerializableError, match="can't be stored"):
        serializer.dump(wrap(value))


def test_an_enum_member_that_its_value_does_not_find() -> None:
    """An enum member that would be read back as another one is refused when written."""

    class Changed(enum.Enum):
        ONE = 1
        TWO = 2

    Changed.TWO._value_ = 1
    with pytest.raises(NotSerializableError, match="looking it up by its value does not return it"):
        Serializer([Changed]).dump(Changed.TWO)


@dataclasses.dataclass
class Endless:
    x: int = dataclasses.field(init=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self, name)


def test_an_object_whose_attributes_never_end() -> None:
    """An object whose parts nest endlessly is refused like any other value that is nested too deeply."""
    with pytest.raises(NotSerializableError, match="nested"):
        Serializer([Endless]).dump([Endless()])


def test_a_private_attribute_that_could_not_come_back() -> None:
    """A model's private attributes belong to it: one that can't be stored is named, not dropped."""
    with pytest.raises(NotSerializableError, match=r"_thread\.lock can't be stored"):
        Serializer([Holding]).dump(Holding())


@pytest.mark.parametrize(
    "wrap",
    [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, lambda x: {1: x}, lambda x: Plan([x])],
    ids=["list", "tuple", "dict", "int keys", "dataclass"],
)
def test_depth_is_refused_when_written_and_never_when_read(wrap: Any) -> None:
    """Any depth that can be written can be read; deeper values, and cycles, are refused by name."""
    strict = Serializer([Plan])
    refused = 0
    for depth in (60, 120, 199, 254, 300, 2000):
        value: Any = 1
        for _ in range(depth):
            value = wrap(value)
        try:
            blob = strict.dump(value)
        except NotSerializableError as error:
            assert "nested" in str(error)  # noqa: PT017
            refused += 1
        else:
            strict.load(blob)
    assert refused >= 1
    itself: list[Any] = []
    itself.append(wrap(itself))
    with pytest.raises(NotSerializableError, match="contains itself"):
        strict.dump(itself)


class TestGarbage:
    """Bytes that this serializer did not write raise only errors of ours."""

    @settings(max_examples=200, derandomize=True, deadline=None)
    @given(st.binary(max_size=200))
    def test_random_bytes(self, raw: bytes) -> None:
        """Random bytes are a named error, or a value."""
        with contextlib.suppress(CorruptDataError):
            serializer.load(raw)

    @settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(VALUES, st.integers(min_value=0), st.integers(0, 255))
    def test_changed_and_cut(self, value: Any, at: int, byte: int) -> None:
        """A blob with a byte changed, or cut short, is a named error, or a value."""
        strict = Serializer(ALLOW)
        blob = strict.dump(value)
        at %= len(blob)
        for damaged in (blob[:at], blob[:at] + bytes([byte]) + blob[at + 1 :]):
            with contextlib.suppress(CorruptDataError, TypeNotAllowedError):
                strict.load(damaged)

    @pytest.mark.parametrize(
        "data",
        [
            ["bytearray", 10**12],
            ["int", 10**12],
            ["int", "9" * 5000],
            ["tuple", 5],
            ["set", [[]]],
            ["datetime", ["x", None, 0]],
            ["timedelta", [2**60, 0, 0]],
            ["zoneinfo", "../../etc/passwd"],
            ["pattern", ["(", 0]],
            ["ndarray", ["O", [1], "C", b"12345678", False]],
            ["ndarray", ["<i4", [2**40], "C", b"", False]],
            ["ndarray", 1],
            ["send", []],
            ["item", {"value": 1}],
            ["defaultdict", ["eval", []]],
            ["nonsense", 1],
            [1, 2],
            [],
            "x",
            {"a": 1},
        ],
        ids=repr,
    )
    def test_objects_that_are_none(self, data: Any) -> None:
        """An object whose data is invalid is a named error, and takes no memory for the size it claims."""
        blob = b"\x00\x00" + ormsgpack.packb(ormsgpack.Ext(2, ormsgpack.packb(data)))
        with pytest.raises((CorruptDataError, TypeNotAllowedError)):
            serializer.load(blob)

    def test_nested_extensions_without_end(self) -> None:
        """Extensions in extensions, more deeply than any value, are a named error."""
        blob = ormsgpack.packb(1)
        for _ in range(3000):
            blob = ormsgpack.packb(ormsgpack.Ext(4, blob))
        with pytest.raises(CorruptDataError):
            serializer.load(b"\x00\x00" + blob)

    def test_elements_that_unfold_without_end(self) -> None:
        """Elements that refer to each other in a circle, or many times each, are a named error at once."""
        reference = ormsgpack.Ext(1, b"\0\0")
        digests = [bytes([number]) * 16 for number in range(12)]
        for payload in (ormsgpack.packb(reference), ormsgpack.packb([reference] * 10)):
            stored = {
                digest: pack_blob([following], b"x" + payload)
                for digest, following in zip(digests, [*digests[1:], digests[0]], strict=True)
            }
            elements = Elements(stored, b"", None)
            with pytest.raises(CorruptDataError):
                serializer.load(pack_blob(digests[:1], payload), elements)
            with pytest.raises(CorruptDataError):
                serializer.load_items(digests[:1], elements)

    def test_another_serializers_value(self) -> None:
        """``loads_typed`` refuses another serializer's data; above all, it never unpickles."""
        for kind in ("pickle", "msgpack", "json", ""):
            with pytest.raises(CorruptDataError, match="another serializer"):
                serializer.loads_typed((kind, b"cos\nsystem\n(S'true'\ntR."))

    def test_pickle_never(self) -> None:
        """Nothing in the package's code reads or writes pickles."""
        package = pathlib.Path(__file__).parents[2] / "src" / "ecowas_lc"
        for path in package.rglob("*.py"):
            assert not re.search(
                r"^\s*(import|from) (pickle|dill|cloudpickle|marshal|shelve)", path.read_text(), re.M
            )


def test_dumps_typed_is_complete_in_itself() -> None:
    """As a plain langgraph serializer, for other savers, it shares nothing and reads everything back."""
    value = {"text": "x" * 1000, "messages": [HumanMessage("y" * 1000, id="1")]}
    assert serializer.loads_typed(serializer.dumps_typed(value)) == value


def nested(kind: Any, levels: int) -> Any:
    value: Any = kind()
    for _ in range(levels):
        value = {1: value} if kind is dict else kind([value])
    return value


def check_depths(kind: Any) -> None:
    for levels in range(150, 260, 5):
        try:
            blob = serializer.dump(nested(kind, levels))
        except NotSerializableError as error:
            assert "deep" in str(error)  # noqa: PT017 - most are none
            assert levels > 190
        else:
            serializer.load(blob)
            assert levels <= 200


@pytest.mark.parametrize("kind", [tuple, frozenset, dict, collections.deque])
def test_what_is_written_is_read(kind: Any) -> None:
    """However deeply objects are nested, the reader accepts what the writer accepts, and refusals say so."""
    with ThreadPoolExecutor(1) as thread:  # whose stack is its own, however deep the test runner's is
        thread.submit(check_depths, kind).result()
    deep: Any = 0
    for _ in range(15):  # lists in tuples: more of both than either limit alone would detect
        for _ in range(200):
            deep = [deep]
        deep = (deep,)
    with pytest.raises(NotSerializableError, match="deep"):
        serializer.dump(deep)


@pytest.fixture
def raise_recursion_limit(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """Raise the limit of Python's stack, until the test has ended."""

    def raise_limit(times: int) -> None:
        request.addfinalizer(functools.partial(sys.setrecursionlimit, sys.getrecursionlimit()))
        sys.setrecursionlimit(times * sys.getrecursionlimit())

    return raise_limit


def tuples(levels: int) -> bytes:
    """A blob of tuples in tuples, of which the writer may accept fewer."""
    payload = b"\x90"
    for _ in range(levels):
        body = b"\x92\xa5tuple\x91" + payload
        head = b"\xc7%c" % len(body) if len(body) < 256 else b"\xc8" + len(body).to_bytes(2, "big")
        payload = head + b"\x02" + body
    return pack_blob([], payload)


def test_depth_that_earlier_versions_wrote(raise_recursion_limit: Callable[[int], None]) -> None:
    """Objects nested 400 deep, which the writer no longer accepts, are still read."""
    if sys.gettrace() is not None:  # a measurement of coverage takes stack for each call
        raise_recursion_limit(2)
    value = serializer.load(tuples(400))
    levels = 0
    while value:
        [value] = value
        levels += 1
    assert levels == 400


def test_depth_that_no_version_wrote(raise_recursion_limit: Callable[[int], None]) -> None:
    """Objects nested more than 500 deep are refused, even if Python's stack has room for more."""
    raise_recursion_limit(10)
    assert serializer.load(tuples(500))
    with pytest.raises(CorruptDataError, match="more deeply than any"):
        serializer.load(tuples(501))


def test_a_reference_to_something_else_than_a_text() -> None:
    """Where a text should be, another element is damage, and is named as such."""
    with pytest.raises(CorruptDataError, match="the element is not text"):
        Elements({b"d" * 16: pack_blob([], b"x\x01")}, b"", None).text(b"d" * 16)


def with_frames(left: int, call: Callable[[], Any]) -> Any:
    """The result of a call that may use this number of frames of Python's stack."""
    unwound = 0

    def deeper() -> Any:
        nonlocal unwound
        try:
            return deeper()
        except RecursionError:
            unwound += 1
            if unwound != left:
                raise
        return call()

    return deeper()


def test_a_value_that_the_callers_stack_has_no_room_for() -> None:
    """A value that takes more of Python's stack than the caller has left is refused like one nested too deeply."""
    value: Any = "\ud800"
    for _ in range(190):
        value = [value]
    assert through(value) == value
    with pytest.raises(NotSerializableError, match="nested"):
        with_frames(100, lambda: serializer.dump(value))


def test_ctrl_c_while_a_value_is_read() -> None:
    """Ctrl-C in code of a stored class stays what it is, though msgpack replaces errors of its hooks."""

    class Interrupted(enum.Enum):
        ONE = 1

        @classmethod
        def _missing_(cls, value: object) -> None:
            raise KeyboardInterrupt

    strict = Serializer([Interrupted])
    blob = strict.dump([Interrupted.ONE])
    changed = blob.replace(b"\x01", b"\x02")
    with pytest.raises(KeyboardInterrupt):
        strict.load(changed)


def test_a_pattern_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A pattern with the debug flag loses it when it is written and, if it was stored, when it is read."""
    pattern = re.compile("a+b", re.IGNORECASE | re.DEBUG)
    stored = ormsgpack.packb(
        ormsgpack.Ext(2, ormsgpack.packb(["pattern", ["a+b", int(re.IGNORECASE | re.DEBUG | re.UNICODE)]]))
    )
    capsys.readouterr()
    for value in (through(pattern), serializer.load(pack_blob([], stored))):
        assert (value.pattern, value.flags) == ("a+b", int(re.IGNORECASE | re.UNICODE))
    assert capsys.readouterr() == ("", "")


def test_what_a_search_of_the_store_gives() -> None:
    """A hit of langgraph's store is read back as one, including its score."""
    moment = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    for score in (None, 0.5):
        hit = SearchItem(("users", "u"), "k", {"likes": "tea"}, moment, moment, score)
        back = through({"memories": [hit]})["memories"][0]
        assert type(back) is SearchItem
        assert back.dict() == hit.dict()
        assert back == hit


def repeating(items: int, size: int) -> tuple[list[bytes], Elements]:
    """A list of equal values, each of which would be built separately."""
    body = b"\0\0x" + ormsgpack.packb(b"b" * size)
    return [b"d" * 16] * items, Elements({b"d" * 16: body}, b"", None)


def test_repetitions_are_bounded() -> None:
    """A few references to one value, which would take gigabytes, are refused before anything is built."""
    digests, elements = repeating(10_000, 100_000)
    with pytest.raises(CorruptDataError, match="so often"):
        serializer.load_items(digests, elements)
    assert len(serializer.load_items(*repeating(2_000, 100))) == 2_000
    reference = ormsgpack.packb(ormsgpack.Ext(1, b"\0\0"))
    many = b"\xdc\x27\x10" + reference * 10_000
    for made_anew in ([b"b" * 100_000], b"b" * 10_000):
        body = b"\0\0x" + ormsgpack.packb(made_anew)
        with pytest.raises(CorruptDataError, match="so often"):
            serializer.load(pack_blob([b"d" * 16], many), Elements({b"d" * 16: body}, b"", None))
    for shared in (b"\0\0s" + b"t" * 100_000, b"\0\0x" + ormsgpack.packb(b"b" * 100_000)):
        values = serializer.load(pack_blob([b"d" * 16], many), Elements({b"d" * 16: shared}, b"", None))
        assert len({id(value) for value in values}) == 1, "texts and large bytes are decoded once"
