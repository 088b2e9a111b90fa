"""Prints the routers' figures on each evaluation set and draws a picture: ``… [PICTURE.png]``."""

from __future__ import annotations

import sys

from ecowas_lc.errors import MissingExtraError
from ecowas_lc.supervisor.evaluation import compare_routers, draw_confusion, evaluation_set, format_table
from ecowas_lc.twg import EVALUATION_SETS


def main(arguments: list[str]) -> int:
    """Print the tables; draw the last set's picture where a path is given. The exit status is 0."""
    for name in EVALUATION_SETS:
        reports = compare_routers(questions=evaluation_set(name)).reports
        sys.stdout.write(f"Evaluation set {name!r}\n{format_table(reports)}\n\n")
    for path in arguments[:1]:
        try:
            sys.stdout.write(f"Picture of the last set: {draw_confusion(reports, path)}\n")
        except MissingExtraError as error:
            sys.stdout.write(f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
