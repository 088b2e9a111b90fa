"""``ecowas-lc docs``: documents from the terminal, and answers measured on them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from ecowas_lc.errors import InvalidInputError, ModelError
from ecowas_lc.supervisor.evaluation.grounding_report import GroundingQuestion, evaluate_grounding, load_grounding
from tests.cli.conftest import Run
from tests.documents.conftest import DOSSIER

NOTE = DOSSIER / "energy_interconnection_2025.md"
LINE = "What is the rated capacity of the coastal line?"


@pytest.fixture
def note(run: Run, environment: pytest.MonkeyPatch) -> str:
    """A document's id, once it is added."""
    added = json.loads(run("docs", "add", str(NOTE), "--json").out)
    return str(added["added"][0]["id"])


def test_from_adding_to_removing(run: Run, note: str) -> None:
    """Each command finds what the previous one stored, in both output formats."""
    listed = run("docs", "list")
    assert note in listed.out
    assert "Status of the Maroa interconnection" in listed.out
    assert json.loads(run("docs", "list", "--json").out)[0]["issuer"] == "Maroa Power Board (MPB)"
    assert "Trade on the exchange came to 132 GWh" in run("docs", "show", note).out
    found = json.loads(run("docs", "search", "pertes sur la ligne côtière", "--json").out)
    assert found[0]["document"] == note
    assert f"{note}  Status of the Maroa interconnection" in run("docs", "search", "coastal line").out
    assert "No passage matches." in run("docs", "search", "xyzzy").err
    as_json = json.loads(run("docs", "show", note, "--json").out)
    assert (as_json["id"], "132 GWh" in as_json["text"]) == (note, True)
    assert "already added" in run("docs", "add", str(NOTE)).err
    assert json.loads(run("docs", "reindex", "--json").out) == {"passages": 4}
    assert run("docs", "reindex").out == "Indexed 4 passages.\n"
    assert run("docs", "remove", note, stdin="n\n", on_terminal=True).out == ""
    assert run("docs", "remove", note, "--yes").out == f"Removed {note}.\n"
    assert "There are no documents" in run("docs", "list").err
    assert run("docs", "add", str(NOTE)).out.startswith(note)
    assert json.loads(run("docs", "remove", note, "--yes", "--json").out)["id"] == note


def test_an_answer_names_its_sources(run: Run, note: str) -> None:
    """With documents, ``ask`` answers from them, and shows which document and passage each mark stands for."""
    ended = run("ask", LINE, "--agent", "energy")
    assert "420 MW" in ended.out
    assert f"[1] Status of the Maroa interconnection (fictional) ({note})" in " ".join(ended.out.split())
    as_json = json.loads(run("ask", LINE, "--agent", "energy", "--json").out)
    assert as_json["citations"][0]["document"] == note
    declined = run("ask", "Who finances the extension to Bracosta?", "--agent", "energy")
    assert "The documents do not say." in declined.out


def test_a_folder_is_added_without_what_can_not_be_read(
    run: Run, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its other files are added, each one left out is named, and the exit code reports it."""
    (tmp_path / "note.txt").write_text("The canal is 12 km long.")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "image.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.txt")
    closed, walk = tmp_path / "closed", os.walk

    def refusing(top: Path, onerror: Any) -> Any:  # root, who runs the tests in CI, may read every folder
        onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed)))
        return walk(top, onerror=onerror)

    closed.mkdir()
    environment.setattr(os, "walk", refusing)
    ended = run("docs", "add", str(tmp_path))
    assert ended.code == 1, ended
    assert ended.out.endswith("  note.txt\n")
    assert ended.err == (
        "Skipped: closed is a folder that can't be read.\nSkipped: empty.txt contains no text.\n"
        "Skipped: pipe.txt is a pipe or a device.\n"
    )


def test_a_folder_is_added_without_what_is_outside(
    run: Run, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A link to a file outside is named and left out; one to a file inside is another name of that file."""
    folder, outside = tmp_path / "notes", tmp_path / "payroll.txt"
    (folder / "kept").mkdir(parents=True)
    outside.write_text("The director earns 9,000 a month.")
    (folder / "kept" / "canal.txt").write_text("The canal is 12 km long.")
    (folder / "inside.txt").symlink_to(folder / "kept" / "canal.txt")
    (folder / "link.txt").symlink_to(outside)
    ended = run("docs", "add", str(folder))
    assert ended.code == 1
    assert "link.txt is a link to a file outside the folder. If you want it, add that file itself." in ended.err
    assert "link.txt" not in run("docs", "list").out
    assert run("docs", "add", str(folder / "link.txt")).code == 0


def test_what_can_not_be_used_is_named(run: Run, note: str, tmp_path: Path) -> None:
    """An unusable file, date, language, page or id ends the command with a line that names it."""
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff\xfe\xfa")
    ended = run("docs", "add", str(bad))
    assert ended.code != 0
    assert "bad.txt is not UTF-8 text" in ended.err
    assert "There is no file or folder" in run("docs", "add", str(tmp_path / "none.md")).err
    assert "2026-03-27" in run("docs", "add", str(NOTE), "--date", "yesterday").err
    assert "not one of en, fr and pt" in run("docs", "add", str(NOTE), "--language", "klingon").err
    assert "--title is for one document" in run("docs", "add", str(DOSSIER), "--title", "All").err
    assert "There is no document" in run("docs", "show", "0000").err
    assert "There is no document" in run("docs", "show", "0000#1").err
    assert "is not a page" in run("docs", "show", f"{note}#one").err
    assert "There is no document" in run("docs", "remove", "0000", "--yes").err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read"),
        (b"\xff", "not UTF-8"),
        (b"", "contains no question"),
        (b"{}", "line 1 is not a question"),
    ],
)
def test_questions_that_can_not_be_used_are_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file of questions that can't be read, or holds none, is an error that names the file."""
    file = tmp_path / "questions.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"questions\.jsonl.*{said}"):
        load_grounding(file)


def test_answers_are_measured(run: Run, note: str, tmp_path: Path) -> None:
    """``eval --grounding`` asks through the whole graph; whatever the model says, the documents answer."""
    questions = tmp_path / "questions.jsonl"
    rows = [
        {
            "id": "1",
            "q": LINE,
            "answerable": True,
            "support": [{"doc": NOTE.name, "quote": "rated capacity of 420 MW"}],
            "must_contain": ["420 MW"],
        },
        {"id": "2", "q": "Who finances the extension to Bracosta?", "answerable": False},
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = json.loads(run("eval", "--grounding", str(questions), "--json").out)["grounding"]
    assert (found["questions"], found["answered"], found["declined"]) == (2, 1.0, 1.0)
    assert (found["recall_at_5"], found["unsupported_figures"]) == (1.0, 0)
    assert found["rows"][0]["citations"][0]["document"] == NOTE.name
    assert found["rows"][1]["declined"]
    assert "100% of the answerable questions" in run("eval", "--grounding", str(questions)).out
    questions.write_text("{}\n", encoding="utf-8")
    assert "line 1 is not a question" in run("eval", "--grounding", str(questions)).err


def test_a_question_that_fails_is_not_answered() -> None:
    """The report says why a question failed, counts it as wrong, and continues with the next one."""

    def failing(_: object) -> object:
        raise ModelError("The model is gone.")

    questions = [GroundingQuestion("1", LINE), GroundingQuestion("2", "Who pays?", answerable=False)]
    report = evaluate_grounding(RunnableLambda(failing), questions)
    assert [row.answer for row in report.rows] == ["ModelError: The model is gone."] * 2
    assert (report.answered, report.declined) == (0.0, 0.0)
