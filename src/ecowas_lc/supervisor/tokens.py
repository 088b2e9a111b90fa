"""How long a prompt is and what is left of the context for it; see :mod:`ecowas_lc.llm.tokens`."""

from __future__ import annotations

from ecowas_lc.llm.tokens import (
    CUT,
    UNKNOWN_CONTEXT,
    TokenCounter,
    Window,
    count_tokens,
    count_tools,
    shorten,
)

__all__ = ["CUT", "UNKNOWN_CONTEXT", "TokenCounter", "Window", "count_tokens", "count_tools", "shorten"]
