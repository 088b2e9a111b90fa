"""Suites for those who write parts for LangChain and langgraph: :mod:`ecowas_lc.testing.stores`."""

__all__: list[str] = []
