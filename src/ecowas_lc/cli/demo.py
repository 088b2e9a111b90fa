"""``ecowas-lc demo``: the main workflow on real input, using only what is installed on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ecowas_lc._extras import install_command
from ecowas_lc.cli.conversation import Conversation, new_session
from ecowas_lc.cli.live_answer import Screen, show_sources
from ecowas_lc.cli.local_servers import install
from ecowas_lc.cli.models import chosen_model
from ecowas_lc.cli.screen import check_target, naming, program, remark, wrapped
from ecowas_lc.cli.store import answering_server
from ecowas_lc.cli.terminal import out
from ecowas_lc.errors import EcowasError, InvalidInputError, MissingExtraError, ModelServerUnavailableError
from ecowas_lc.settings import Settings, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ecowas_lc.agents.events import Finished
    from ecowas_lc.cli.models import ChosenModel
    from ecowas_lc.storage.server import Server
    from ecowas_lc.supervisor.state import SupervisorOutput

QUESTIONS = (
    "How can the West African Power Pool cut losses on its interconnection lines?",
    "How can guarantees bring investors to solar mini-grids?",
)
DOSSIER_QUESTIONS = (
    "What is the rated capacity of the coastal line between Kosande and Senovar?",
    "Quel est le tarif social à Talvera ?",
    "Who finances the extension of the line to Bracosta?",
)
PICTURE = "ecowas-lc-demo"


def demonstrate(folder: Path) -> None:
    """Ask two questions in a session, read it back in a second process, and draw what happened."""
    from ecowas_lc.twg import default_groups

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{folder} can't be created: {error.strerror}.") from error
    check_target(folder / f"{PICTURE}.png")
    settings = get_settings()
    server = answering_server(settings)
    session = f"demo-{new_session()}"
    names = {group.id: group.name for group in default_groups()}
    with _model(settings) as model:
        _title("The supervisor and its six working groups")
        _row("Model", f"{model.name} at {model.base_url}")
        _row("Storage", f"{server.where} ({_kind(settings)})")
        _row("Session", session)
        _row("Process", str(os.getpid()))
        if model.note:
            remark(f"\n{model.note}")
        remark(
            "\nThe first two questions show routing, streaming and the synthesis. They are answered without "
            "documents, so nothing checks what the model says: expect it to invent facts. The part after them "
            "checks each sentence."
        )
        with Conversation(session, model.chat, settings=settings, server=server) as conversation:
            for number, question in enumerate(QUESTIONS, start=1):
                _title(f"Question {number}: {question}")
                turn = _ask(conversation, question, names)
            graph = conversation.graph
        _title("Answers that rest on documents: a dossier on a community that does not exist")
        _answer_from_documents(model, settings)
    _title("A second process reads the conversation")
    _read_back(session)
    _title("The graph, with the route of the second question")
    _draw(graph, turn, folder)
    _title("Next steps")
    _hints(session, settings, server)


def _answer_from_documents(model: ChosenModel, settings: Settings) -> None:
    """Ask questions about the fictional dossier, and show sources and what the check removed."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("snowballstemmer", "bs4", "numpy")):
        remark(f"This part needs the extras documents and search. Run: {install_command('documents', 'search')}")
        return
    from ecowas_lc.documents import Documents
    from ecowas_lc.documents.document import DOSSIER
    from ecowas_lc.supervisor import build_supervisor

    server = answering_server(settings)
    documents = Documents.from_server(server, prefix=settings.prefix, collection="demo-documents")
    try:
        report = documents.add(DOSSIER)
        _row("Dossier", f"{len(report.added) + len(report.known)} fictional documents, removed again at the end")
        graph = build_supervisor(model.chat, router="lexical", documents=documents)
        for question in DOSSIER_QUESTIONS:
            _show_checked(graph.invoke({"messages": [("user", question)]}), question)
    finally:
        documents.clear()


def _show_checked(result: SupervisorOutput, question: str) -> None:
    from ecowas_lc.agents.turn import citations_of

    console = out()
    message = result["messages"][-1]
    console.print(Text(f"\n{wrapped(question, console)}", style="bold"))
    console.print(Text(wrapped(message.text, console, "  ", "  ")))
    show_sources(citations_of(message), console)
    for report in (result.get("reports") or {}).values():
        for sentence in report.get("left_out") or ():
            console.print(
                Text(wrapped(f"Left out, without a source: {sentence}", console, "    ", "  "), style="dim")
            )


def _ask(conversation: Conversation, question: str, names: dict[str, str]) -> Finished:
    screen = Screen(names)
    try:
        return conversation.ask(question, screen.show)
    finally:
        screen.done()


def _model(settings: Settings) -> Any:
    """Return the chosen model, after installing the local one if no other answers."""
    from contextlib import contextmanager

    from ecowas_lc.local_model import is_available

    @contextmanager
    def model() -> Iterator[ChosenModel]:
        try:
            with chosen_model(settings, for_demo=True) as chosen:
                yield chosen
        except ModelServerUnavailableError:
            if settings.ollama_is_set or is_available():
                raise
            remark("Ollama does not answer, so the small local model is being installed (about 130 MB, once).")
            install()
            with chosen_model(settings, for_demo=True) as chosen:
                yield chosen

    return model()


def _read_back(session: str) -> None:
    """Run ``sessions show`` in a new process, which is only given the session's id.

    Raises:
        EcowasError: It did not find the conversation.
    """
    command = ["sessions", "show", "--brief", session]
    console = out()
    console.print(Text(f"$ {program()} {shlex.join(command)}", style="bold"))
    console.file.flush()
    environment = {**os.environ, "COLUMNS": str(console.width)}
    if console.is_terminal and "NO_COLOR" not in environment:
        environment["FORCE_COLOR"] = "1"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-P", "-m", "ecowas_lc.cli", *command], check=False, env=environment
    )
    if done.returncode != 0:
        raise EcowasError(f"The second process did not find the session (exit code {done.returncode}).")


def _draw(graph: Any, turn: Finished, folder: Path) -> None:
    from ecowas_lc.drawing import draw_graph

    decision = {"groups": list(turn.groups), "source": turn.source, "reason": turn.reason}
    picture = draw_graph(graph, {"decision": decision, "reports": turn.reports})
    with naming(folder / PICTURE):
        files = _saved(picture, folder)
    for file in files:
        _row("Picture", str(file.resolve()))


def _saved(picture: Any, folder: Path) -> list[Path]:
    try:
        return [picture.save(folder / f"{PICTURE}{ending}") for ending in (".png", ".svg")]
    except MissingExtraError as error:
        remark(str(error))
        return [picture.save(folder / f"{PICTURE}.mmd")]


def _hints(session: str, settings: Settings, server: Server) -> None:
    _row("Ask", f'{program()} ask --session {session} "…"')
    _row("Talk", f"{program()} chat --session {session}")
    _row("Page", f"{program()} serve")
    _row("Look", f"{_redis_cli(settings, server)} LRANGE {settings.prefix}:history:energy:{session} 0 -1")


def _redis_cli(settings: Settings, server: Server) -> str:
    from ecowas_lc.embedded import server_status

    if _is_embedded(settings):
        return f"redis-cli -s {shlex.quote(str(server_status(settings).socket))}"
    return "redis-cli -u $REDIS_URL" if settings.redis_source == "url" else f"redis-cli -h {settings.redis_host}"


def _kind(settings: Settings) -> str:
    if _is_embedded(settings):
        return "set REDIS_URL to use your own"
    return {"url": "from REDIS_URL", "parts": "from REDIS_HOST"}.get(settings.redis_source, "the default address")


def _is_embedded(settings: Settings) -> bool:
    from ecowas_lc.embedded import is_available

    return settings.redis_source == "default" and is_available(settings)


def _title(text: str) -> None:
    console = out()
    console.print(Text(f"\n{wrapped(f'━━ {text}', console, '   ')}\n", style="bold"))


def _row(label: str, text: str) -> None:
    out().print(Text.assemble((f"{label:<9}", "dim"), text))
