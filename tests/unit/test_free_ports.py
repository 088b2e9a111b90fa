"""Ports for servers of tests: no other test process chooses a port before it is used."""

from itertools import islice

from tests.fixtures import servers


def test_parallel_test_processes_choose_different_ports(monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    chosen = []
    for number in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        chosen += islice(servers._ports(), 3_333)
    assert len(set(chosen)) == len(chosen)
    assert min(chosen) >= 10_000
    assert max(chosen) < 20_000
