"""Memory in Redis or Valkey and models on Ollama, for LangChain and LangGraph.

Everything public is here: ``from ecowas_lc import RedisSaver``. Importing the package loads nothing else; a name
loads its module when you first use it. ``__init__.pyi`` lists the names and their modules, for Python and for type
checkers.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
