"""Print the routers' figures on each evaluation set and draw a picture: ``… [PICTURE.png]``."""

from __future__ import annotations

import sys

from ecowas_lc.errors import MissingExtraError
from ecowas_lc.supervisor.evaluation import (
    compare_routers,
    draw_confusion,
    evaluate_dialogues,
    evaluation_dialogues,
    evaluation_set,
    format_dialogues,
    format_table,
)
from ecowas_lc.supervisor.routing import get_router
from ecowas_lc.twg import DIALOGUE_SETS, EVALUATION_SETS


def main(arguments: list[str]) -> int:
    """Print the tables, draw the last set's picture if a path is given, and return exit status 0."""
    for name in EVALUATION_SETS:
        reports = compare_routers(questions=evaluation_set(name)).reports
        sys.stdout.write(f"Evaluation set {name!r}\n{format_table(reports)}\n\n")
    for name in DIALOGUE_SETS:
        for own_past, before in ((False, "as labelled"), (True, "as the router chose")):
            followed = {
                router: evaluate_dialogues(get_router(router), evaluation_dialogues(name), own_past=own_past)
                for router in reports
            }
            title = f"Dialogues {name!r}, the turns before {before}"
            sys.stdout.write(f"{title}\n{format_dialogues(followed)}\n\n")
    for path in arguments[:1]:
        try:
            sys.stdout.write(f"Picture of the last set: {draw_confusion(reports, path)}\n")
        except MissingExtraError as error:
            sys.stdout.write(f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
