"""A conformance suite for langgraph stores, which checks the promises of ``BaseStore`` one at a time.

It needs no test framework, and works with pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=str)
    @pytest.mark.parametrize("shell", ["sync", "async"])
    async def test_my_store(check, shell):
        await run_check(check, my_store, shell)

where ``my_store`` is an async generator or async context manager that yields a new, empty store::

    @contextlib.asynccontextmanager
    async def my_store(setup: Setup):
        yield MyStore(index=setup.index, ttl=setup.ttl)

:func:`validate` runs everything and reports each capability.
"""

from ecowas_lc.testing.stores.checks import CHECKS, Check
from ecowas_lc.testing.stores.running import Report, Setup, Shell, run_check, validate

__all__ = ["CHECKS", "Check", "Report", "Setup", "Shell", "run_check", "validate"]
