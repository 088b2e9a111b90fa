"""``python -m ecowas_lc.cli``: runs the command if its script is not on ``PATH``."""

from __future__ import annotations

import sys

from ecowas_lc.cli import main

if __name__ == "__main__":
    sys.exit(main())
