"""The search index: items with texts and vectors, searched by meaning, words or both on any Redis or Valkey."""

from ecowas_lc.search.items import SearchMode

__all__ = ["SearchMode"]
