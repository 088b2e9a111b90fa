"""Memory in Redis or Valkey and models on Ollama, for LangChain and LangGraph.

All public names are here: ``from ecowas_lc import RedisSaver``. Importing the package loads nothing else; a name
loads its module on first use. ``__init__.pyi`` lists the names and their modules, for Python and for type
checkers.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Names in other libraries, and the corresponding names here.
_NAMED_ELSEWHERE = {
    "AsyncRedisSaver": "RedisSaver: one object serves sync and async code",
    "AsyncShallowRedisSaver": "RedisSaver(keep_last=1): one object serves sync and async code",
    "AsyncValkeySaver": "RedisSaver: one object serves sync and async code, on Redis and Valkey",
    "ShallowRedisSaver": "RedisSaver(keep_last=1)",
    "ValkeySaver": "RedisSaver, on Redis and Valkey",
    "AsyncRedisStore": "RedisStore: one object serves sync and async code",
    "AsyncValkeyStore": "RedisStore: one object serves sync and async code, on Redis and Valkey",
    "ValkeyStore": "RedisStore, on Redis and Valkey",
    "RedisCache": "RedisLLMCache",
}


def __getattr__(name: str) -> Any:
    if name in _NAMED_ELSEWHERE:
        # Not AttributeError, because "from … import" would replace its message.
        raise ImportError(f"ecowas_lc has no {name}. Use {_NAMED_ELSEWHERE[name]}.")
    return _load(name)
