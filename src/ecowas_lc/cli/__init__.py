"""The command ``ecowas-lc``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``None``: the process's) and return its exit code."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        from ecowas_lc._extras import install_command

        sys.stderr.write(
            f"The command needs {error.name}, which is not installed. Run: {install_command('cli')}\n"
        )
        return 1
    from ecowas_lc.cli.commands import app
    from ecowas_lc.cli.options import run

    return run(app, arguments)
