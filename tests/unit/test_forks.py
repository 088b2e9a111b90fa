"""Whatever a forked child must forget is registered with :mod:`ecowas_lc.forks`, and is free in the child."""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ecowas_lc
from ecowas_lc import forks
from tests.fixtures.forked import WAYS, in_child, in_thread

SOURCE = Path(ecowas_lc.__file__).parent
# fmt: off
WAITED_FOR = frozenset({
    "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier", "Timer", "Thread", "local",
    "Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "JoinableQueue",
    "ThreadPoolExecutor", "ProcessPoolExecutor",
})
# fmt: on
THEIR_MODULES = frozenset(
    {"threading", "asyncio", "queue", "multiprocessing", "concurrent.futures", "_thread", "futures"}
)
BY_LOOP = "AbstractEventLoop"  # in the annotation of a table
RENEW_THEMSELVES = frozenset({"forks.Lock", "forks.ForkBarrier"})
# Data held for later, under names that only people understand; each must be dropped in a child.
JOURNALS = {
    ("agents/outage.py", "ServerLink"): {"_held", "_worker", "_problem"},
    ("agents/transcript.py", "SharedConversation"): {"_waiting", "_reset", "_unsettled"},
    ("agents/redis_agent.py", "KnownState"): {"_waits"},
    ("agents/thread_journal.py", "Thread"): {"removal", "_waiting", "_recent", "_stale", "_holder"},
}
# A process that serves the small local model: llama.cpp's own threads don't survive a fork, nothing there could.
NO_USE_IN_A_CHILD = "local_model/"


@dataclass(frozen=True)
class Found:
    """One object in the source that a forked child must not inherit unchanged."""

    module: str
    owner: str  # the class, or "" for a module's own
    attribute: str
    kind: str

    def __str__(self) -> str:
        return f"{self.module}: {self.owner or 'module'}.{self.attribute} = {self.kind}"


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Each name that the module imports from a module with locks, and its full dotted name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in THEIR_MODULES:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "ecowas_lc.forks":
            found |= {alias.asname or alias.name: f"forks.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
    return found


def kinds_in(value: ast.AST, names: dict[str, str]) -> Iterator[str]:
    """The locks, queues and threads that an expression creates or refers to."""
    for node in ast.walk(value):
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        head, _, rest = dotted.partition(".")
        full = f"{names.get(head, head)}{'.' if rest else ''}{rest}"
        module, _, name = full.rpartition(".")
        if full in RENEW_THEMSELVES or (name in WAITED_FOR and module in THEIR_MODULES):
            yield full


def found_in(path: Path) -> Iterator[Found]:
    """What a module keeps in its own variables, its classes' attributes and its objects' attributes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = imported_names(tree)
    module = path.relative_to(SOURCE).as_posix()

    def scan(body: list[ast.stmt], owner: str, *, in_function: bool) -> Iterator[Found]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from scan(node.body, node.name, in_function=False)
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from scan(node.body, owner, in_function=True)
                continue
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assign):
                    targets, value, annotation = inner.targets, inner.value, None
                elif isinstance(inner, ast.AnnAssign):
                    targets, value, annotation = [inner.target], inner.value, inner.annotation
                else:
                    continue
                for whole in targets:
                    target = whole
                    while isinstance(target, ast.Subscript):  # an entry of a table
                        target = target.value
                    kept = isinstance(target, ast.Attribute) or (isinstance(target, ast.Name) and not in_function)
                    if not kept:
                        continue
                    attribute = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
                    kinds = list(kinds_in(value, names)) if value is not None else []
                    if annotation is not None and BY_LOOP in ast.unparse(annotation):
                        kinds.append("a table by event loop")
                    for kind in kinds:
                        yield Found(module, owner, attribute, kind)

    yield from scan(tree.body, "", in_function=False)


@functools.cache
def everything() -> list[Found]:
    found = [each for path in sorted(SOURCE.rglob("*.py")) for each in found_in(path)]
    found += [
        Found(module, owner, name, "a journal") for (module, owner), all_ in JOURNALS.items() for name in all_
    ]
    return [each for each in found if not each.module.startswith((NO_USE_IN_A_CHILD, "forks.py"))]


def class_in(module: str, name: str) -> ast.ClassDef:
    tree = ast.parse((SOURCE / module).read_text(encoding="utf-8"))
    return next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)


def renewed_by(cls: ast.ClassDef) -> set[str]:
    """The attributes that ``forget_parent``, and the class's methods that it calls, assign or clear."""
    methods = {node.name: node for node in cls.body if isinstance(node, ast.FunctionDef)}
    todo, seen, renewed = ["forget_parent"], set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name not in methods:
            continue
        seen.add(name)
        for node in ast.walk(methods[name]):
            is_own = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
            if is_own and isinstance(node.ctx, ast.Store):
                renewed.add(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if ast.unparse(node.func.value) == "self":
                    todo.append(node.func.attr)
                elif node.func.attr == "clear" and isinstance(node.func.value, ast.Attribute):
                    renewed.add(node.func.value.attr)
    return renewed


def test_the_scan_finds_what_there_is() -> None:
    """The scan finds the package's known locks; a scan that finds nothing would let everything pass."""
    found = {(each.module, each.owner, each.attribute) for each in everything()}
    assert {
        ("embedded/lifecycle.py", "", "_mutex"),
        ("memory/connections.py", "", "_lock"),
        ("memory/factories.py", "", "_lock"),
        ("agents/outage.py", "", "_lock"),
        ("agents/outage.py", "ServerLink", "_worker"),
        ("agents/transcript.py", "SharedConversation", "_lock"),
        ("checkpoint/client_cache.py", "ClientCache", "_lock"),
        ("storage/server.py", "Server", "_lock"),
        ("storage/server.py", "Server", "_gate"),
        ("storage/server.py", "Server", "_by_loop"),
        ("supervisor/concurrency.py", "Slots", "_threads"),
        ("supervisor/concurrency.py", "Slots", "_tasks"),
        ("supervisor/routing/semantic.py", "SemanticRouter", "_training"),
    } <= found


@pytest.mark.parametrize("found", sorted(everything(), key=str), ids=str)
def test_it_begins_anew_in_a_child(found: Found) -> None:
    """Each lock, slot, thread, queue, table by event loop and journal is renewed in a forked child.

    Either it is a ``forks.Lock`` or ``forks.ForkBarrier``, or it belongs to a class that registers its objects
    with ``forks.register`` and whose ``forget_parent`` sets it.
    """
    if found.kind in RENEW_THEMSELVES:
        return
    assert found.owner, f"{found} is not renewed in a forked child: make it a forks.Lock"
    cls = class_in(found.module, found.owner)
    assert found.attribute in renewed_by(cls), f"{found}: {found.owner}.forget_parent must set it"
    assert "forks.register(self)" in ast.unparse(cls), f"{found}: the constructor must call forks.register(self)"


def module_locks() -> list[tuple[str, str]]:
    return sorted({(each.module, each.attribute) for each in everything() if not each.owner})


@pytest.mark.parametrize(("module", "name"), module_locks())
@pytest.mark.parametrize("way", WAYS)
def test_locks_of_modules_are_free(module: str, name: str, way: str) -> None:
    """A module's lock that another thread held at the fork is free for every thread of the child."""
    dotted = "ecowas_lc." + module.removesuffix(".py").replace("/", ".")
    lock = getattr(importlib.import_module(dotted), name)

    def use() -> str:
        with lock:
            return "used"

    if isinstance(
        lock, forks.ForkBarrier
    ):  # no thread can fork while another holds it, so the forking thread is the holder
        with lock:
            assert WAYS[way](use) == "used"
        return
    with held_by_others(lock):
        assert WAYS[way](use) == "used"


class held_by_others:  # noqa: N801  # a context manager, read like a function
    """Locks that other threads hold for the length of the block."""

    def __init__(self, *locks: Any) -> None:
        self._locks = locks

    def __enter__(self) -> None:
        held, self._done = threading.Barrier(len(self._locks) + 1), threading.Event()

        def hold(lock: Any) -> None:
            with lock:
                held.wait(20)
                self._done.wait(60)

        self._threads = [threading.Thread(target=hold, args=(lock,)) for lock in self._locks]
        for thread in self._threads:
            thread.start()
        held.wait(20)

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(20)


def a_server() -> Any:
    from ecowas_lc.storage.server import Server

    return Server.from_url("redis+sentinel://127.0.0.1:1/main/0")


def a_link() -> Any:
    from ecowas_lc.agents.outage import ServerLink

    return ServerLink(a_server(), "ecowas")


def an_embedder() -> Any:
    from ecowas_lc._embeddings import offline_engine

    return offline_engine()


def made(module: str, name: str, *arguments: Any) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(f"ecowas_lc.{module}"), name)(*arguments)


def a_search_index() -> Any:
    from ecowas_lc.search.index import SearchIndex

    return SearchIndex(None, 2, has_words=True, opener=None)  # type: ignore[arg-type]


MAKERS: dict[tuple[str, str], Callable[[], Any]] = {
    ("storage/server.py", "Server"): a_server,
    ("storage/multiplexing.py", "CallQueue"): made("storage.multiplexing", "CallQueue", 1),
    ("storage/clusters.py", "NodePools"): made("storage.clusters", "NodePools", None, 1, 1.0),
    ("llm/request_queue.py", "RequestQueue"): made("llm.request_queue", "RequestQueue"),
    ("llm/request_queue.py", "Patience"): made("llm.request_queue", "Patience", 1.0),
    ("agents/outage.py", "ServerLink"): a_link,
    ("supervisor/double_texting.py", "_LocalLeases"): made("supervisor.double_texting", "_LocalLeases"),
    ("agents/transcript.py", "SharedConversation"): made("agents.transcript", "SharedConversation", "energy", "s"),
    ("agents/redis_agent.py", "KnownState"): made("agents.redis_agent", "KnownState"),
    ("agents/thread_journal.py", "Thread"): made("agents.thread_journal", "Thread"),
    ("checkpoint/client_cache.py", "ClientCache"): made("checkpoint.client_cache", "ClientCache"),
    ("supervisor/concurrency.py", "Slots"): made("supervisor.concurrency", "Slots", 1),
    ("supervisor/routing/semantic.py", "SemanticRouter"): made("supervisor.routing.semantic", "SemanticRouter"),
    ("_embeddings.py", "OfflineEngine"): an_embedder,
    ("search/index.py", "SearchIndex"): a_search_index,
    ("search/copies.py", "_Slots"): made("search.copies", "WordCopy"),
    ("search/words.py", "_Stemmers"): made("search.words", "_Stemmers"),
    ("web/run_driver.py", "Feed"): made("web.run_driver", "Feed", "run", "session"),
    ("web/run_driver.py", "_Writer"): made("web.run_driver", "_Writer", None, None, None),
}
LOCKS = (forks.Lock, type(threading.Lock()), type(threading.RLock()), threading.Semaphore)


def test_every_class_is_tried() -> None:
    """A class with something to forget has an entry here that creates one; a ``forks.Lock`` needs none."""
    found = {(each.module, each.owner) for each in everything() if each.kind not in RENEW_THEMSELVES}
    assert {owner for owner in found if owner[1]} <= MAKERS.keys()


def locks_of(thing: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(thing).items() if isinstance(value, LOCKS)}


@pytest.mark.parametrize("which", MAKERS, ids=lambda which: which[1])
def test_locks_of_objects_are_free(which: tuple[str, str]) -> None:
    """Whichever thread of the parent holds an object's lock, each thread of a forked child can take it."""
    thing = MAKERS[which]()
    with ExitStack() as stack:
        for lock in locks_of(thing).values():
            times = getattr(lock, "_initial_value", 1)
            stack.enter_context(held_by_others(*[lock] * times))

        def use() -> list[str]:
            for lock in locks_of(thing).values():
                with lock:
                    pass
            return sorted(locks_of(thing))

        assert in_child(lambda: in_thread(use)) == sorted(locks_of(thing))


def test_tables_by_event_loop_are_empty() -> None:
    """A child has no client and no slot of its parent's event loops."""
    slots = made("supervisor.concurrency", "Slots", 1)()
    server = a_server()

    async def main() -> tuple[int, int]:
        async with slots.aheld():
            await server._client_of_this_loop(server._factory)
            assert (len(slots._tasks), len(server._by_loop)) == (1, 1)
            return in_child(lambda: (len(slots._tasks), len(server._by_loop)))

    assert asyncio.run(main()) == (0, 0)


def test_copies_of_an_index() -> None:
    """A child keeps the copies of a search index, except one that another thread was changing."""
    index = a_search_index()
    idle, busy = index._copy("words", ("idle",)), index._copy("words", ("busy",))
    with held_by_others(busy.lock):
        assert in_child(lambda: [under for _, under in index._copies]) == [("idle",)]
    assert idle is index._copy("words", ("idle",))


def test_owners_are_held_weakly() -> None:
    """Registering keeps nothing alive: a deleted object is not called, and takes no memory."""

    class Owner:
        def forget_parent(self) -> None:
            raise AssertionError

    before = len(forks._owners)
    owner = Owner()
    forks.register(owner)
    assert len(forks._owners) == before + 1
    del owner
    assert len(forks._owners) == before


def test_one_that_fails_keeps_none_from_it(caplog: pytest.LogCaptureFixture) -> None:
    """An owner whose ``forget_parent`` raises is named in the log, and the others are still reset."""

    class Broken:
        def forget_parent(self) -> None:
            raise RuntimeError("broken on purpose")

    class Fine:
        renewed = False

        def forget_parent(self) -> None:
            self.renewed = True

    broken, fine = Broken(), Fine()
    forks.register(broken)
    forks.register(fine)

    def look() -> tuple[bool, list[str]]:
        return fine.renewed, [record.getMessage() for record in caplog.records]

    assert in_child(look) == (True, ["Broken could not restart in a forked child"])
    assert not fine.renewed


def test_a_fork_inside_a_lock() -> None:
    """A thread that forks while it holds a lock leaves it free in both processes."""
    lock, barrier = forks.Lock(), forks.ForkBarrier()

    def both() -> str:
        with lock, barrier:
            pass
        return in_thread(lambda: "free" if not lock.locked() else "held")

    with lock, barrier:
        assert in_child(both) == "free"
    assert both() == "free"
    forks._barriers.remove(barrier)


# Products of two vectors take no lock of OpenBLAS. Training runs in a barrier, and the build only in a checkout.
PRODUCTS = {
    "supervisor/routing/kernel.py",
    "supervisor/routing/build.py",
    "supervisor/routing/embedding.py",
    "documents/word_vectors.py",
}


def test_openblas_is_used_where_no_fork_disturbs_it() -> None:
    """Products of matrices, which take OpenBLAS's locks, are only in the modules that handle forks."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if is_product or name in {"np.dot", "np.matmul", "np.inner", "np.linalg.inv", "np.linalg.solve"}:
                found.add(path.relative_to(SOURCE).as_posix())
    assert found == PRODUCTS
    kernel = ast.parse((SOURCE / "supervisor/routing/kernel.py").read_text(encoding="utf-8"))
    guarded = [
        inner
        for node in ast.walk(kernel)
        if isinstance(node, ast.With) and ast.unparse(node.items[0]) == "_training"
        for inner in ast.walk(node)
    ]
    products = [
        node for node in ast.walk(kernel) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
    ]
    assert products
    assert all(node in guarded for node in products)
