"""The index: items with texts and vectors, searched by meaning, by words or by both on any Redis or Valkey."""

from ecowas_lc.search.items import Mode

__all__ = ["Mode"]
