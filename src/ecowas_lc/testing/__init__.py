"""Suites for those who write parts for LangChain and langgraph: ``ecowas_lc.testing.stores`` and ``savers``."""

__all__: list[str] = []
