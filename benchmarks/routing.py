"""Routing a question against one embedding of it, in one process: ``python -m benchmarks.routing``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks import part
from benchmarks.report import Bound, Report, Table, figure, times
from ecowas_lc import get_router
from ecowas_lc.supervisor.evaluation import evaluation_set
from ecowas_lc.supervisor.routing.embedding import OfflineEmbeddings

MOST_EMBEDDINGS = 1.15


def spent(call: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds that a call takes, and those of CPU time."""
    begun, worked = time.perf_counter(), time.process_time()
    call()
    return 1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - worked)


def measure(options: part.Options) -> Report:
    rounds = options.rounds or (3 if options.quick else 10)
    router, embeddings = get_router("hybrid"), OfflineEmbeddings()
    questions = [example.question for example in evaluation_set("dev")][: 20 if options.quick else 60]
    calls: dict[str, Callable[[str], object]] = {
        "one embedding": embeddings.embed_query,
        "hybrid router": router.route,
    }
    taken: dict[str, list[tuple[float, float]]] = {what: [] for what in calls}
    for number in range(rounds + 1):
        for question in questions:
            for what, call in calls.items():
                found = spent(lambda call=call, question=question: call(question))
                if number:  # the first round loads the model
                    taken[what].append(found)
    alone, routed = taken.values()
    ratios = [
        statistics.median(mine[kind] / its[kind] for mine, its in zip(routed, alone, strict=True))
        for kind in (0, 1)
    ]
    rows = [
        [what, *(figure(statistics.median(each[kind] for each in every)) for kind in (0, 1))]
        for what, every in taken.items()
    ]
    rows.append(["ratio, median of pairs", *map(times, ratios)])
    note = f"{len(questions)} questions, {rounds} rounds; a question is embedded and routed in turn."
    table = Table("Routing a question", ["", "ms", "ms of CPU"], rows, note)
    bound = Bound("routing a question against one embedding: CPU time", MOST_EMBEDDINGS, ratios[1], " ×")
    return Report(tables=[table], bounds=[bound])


if __name__ == "__main__":
    part.main(measure, part.parser(__doc__))
