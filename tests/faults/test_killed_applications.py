"""Applications that are killed between any two commands of a conversation, and started again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.faults.load import Outcome
from tests.fixtures.servers import running_server


@pytest.mark.timeout(1800)
def test_killed_between_any_two_commands(flavour, prefix, is_long, record_row):
    """SIGKILL before any command and before any reply: the state is an uninterrupted run's, and every history has
    each message once."""
    step = 1 if is_long else 23
    with running_server(flavour) as server:
        command = [sys.executable, "-m", "tests.faults.killing", server.url, prefix, "1", str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1700)
    assert done.returncode == 0, done.stderr[-3000:]
    first, *points = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [point for point in points if point["killed"]]
    differing = [point for point in points if point["differs"]]
    outcome = Outcome(
        f"{flavour}: application killed at {len(killed)} points",
        acknowledged=sum(map(len, first["expected"]["histories"].values())) * len(points),
        lost=len(differing),
        doubled=0,
        failed=0,
        recovery_seconds=None,
        details={},
    )
    record_row(outcome)
    assert not differing, (differing[:2], done.stderr[-3000:])
    # The number of a run's commands varies a little with the timing of its threads and tasks.
    assert len(killed) >= 0.9 * len(points)
    for awaits in (True, False):
        assert len([point for point in killed if point["awaits"] is awaits]) >= 3
    assert len(killed) >= (200 if is_long else 10)
