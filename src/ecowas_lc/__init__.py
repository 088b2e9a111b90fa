"""Memory in Redis or Valkey and models on Ollama, for LangChain and LangGraph."""

from __future__ import annotations

from ecowas_lc._version import __version__

__all__ = ["__version__"]
