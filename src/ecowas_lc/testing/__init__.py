"""Conformance suites for implementations of LangChain and langgraph interfaces: ``stores`` and ``savers``."""

__all__: list[str] = []
