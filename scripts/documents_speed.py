"""Measure how long documents take: the import of pages, a question's passages, and the check of an answer.

    python scripts/documents_speed.py [PAGES] [--embeddings]

Writes generated pages of about 400 words, ten to a document, to a temporary folder and adds them, then adds them
again, as after an interruption. Prints CPU time of this process as well, since other programs slow the clock.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from ecowas_lc._embeddings import offline_engine
from ecowas_lc.documents import Documents
from ecowas_lc.documents.check import answer_sentences, check_answer
from ecowas_lc.settings import Settings
from ecowas_lc.supervisor.evaluation.grounding_report import load_grounding

PAGES_OF_ONE, SENTENCES_OF_A_PAGE = 10, 27
THINGS = ("warehouse", "bridge", "cable", "mill", "clinic", "school", "harbour", "market", "reservoir", "depot")
PLACES = ["Talvera", "Mirabu", "Kosande", "Senovar", "Bracosta", "Lumeira", "Dunhara", "Osk", "Velt", "Sarro"]
UNITS = ("tonnes", "km", "MW", "members", "million maros", "per cent of the total")


def pages(count: int, folder: Path) -> None:
    """Write documents of generated pages."""
    chance = random.Random(7)
    for number in range(-(-count // PAGES_OF_ONE)):
        lines = [f"# Report {number} of the Maroa Community", "", "Issuer: Maroa Board", "Date: 14 May 2025", ""]
        for page in range(PAGES_OF_ONE):
            lines += [f"## Part {page + 1}", ""]
            for _ in range(SENTENCES_OF_A_PAGE):
                thing, other = chance.sample(THINGS, 2)
                lines.append(
                    f"The {thing} at {chance.choice(PLACES)} received {chance.randrange(2, 90_000):,} "
                    f"{chance.choice(UNITS)} in {chance.randrange(2015, 2026)}, and its {other} was repaired."
                )
            lines.append("")
        (folder / f"report_{number}.md").write_text("\n".join(lines), encoding="utf-8")


def timed(action: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds and CPU seconds that an action takes, and its result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = action()
    return time.perf_counter() - start, time.process_time() - cpu, result


def main(count: int, *, embeddings: bool) -> None:
    """Measure and print."""
    by_meaning: Any = None
    if embeddings:
        from ecowas_lc.store.indexing import OfflineSearchEmbeddings

        by_meaning = OfflineSearchEmbeddings()
    settings = Settings(prefix="documents-speed")
    documents = Documents.from_settings(settings, embeddings=by_meaning)
    documents.clear()
    with tempfile.TemporaryDirectory() as name:
        pages(count, Path(name))
        seconds, cpu, report = timed(lambda: documents.add(name))
        print(f"import of {count} pages ({len(report.added)} documents): {seconds:.1f} s, {cpu:.1f} s of CPU")
        seconds, cpu, report = timed(lambda: documents.add(name))
        print(f"the same again ({len(report.known)} documents are there): {seconds:.1f} s, {cpu:.1f} s of CPU")
    data = files("ecowas_lc.twg") / "data"
    asked = load_grounding(Path(str(data / "eval" / "grounding_dev.jsonl")))
    documents.search("warm up")
    found = [timed(lambda q=one.q: documents.search(q)) for one in asked]
    print(
        f"passages of a question: median {1000 * statistics.median(one[0] for one in found):.0f} ms, "
        f"{1000 * statistics.median(one[1] for one in found):.0f} ms of CPU in this process"
    )
    documents.clear()
    documents.add(str(data / "dossier"))
    answers = []
    for one in asked:
        evidence, sources = documents.evidence(one.q)
        if evidence:
            answers.append((" ".join(each.sentence.in_words for each in evidence), sources))
    checks = [timed(lambda said=said, sources=sources: check_answer(said, sources)) for said, sources in answers]
    engine = offline_engine()
    embedded = [timed(lambda said=said: engine.passages(answer_sentences(said))) for said, _ in answers]
    check, embedding = (statistics.median(one[1] for one in each) for each in (checks, embedded))
    print(
        f"check of an answer: {1000 * check:.1f} ms of CPU; embedding its sentences: {1000 * embedding:.1f} ms; "
        f"ratio {check / embedding:.2f}"
    )
    documents.clear()


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    main(numbers[0] if numbers else 150, embeddings="--embeddings" in sys.argv)
