"""The supervisor: finds the working groups a question concerns, asks them, brings their answers together.

Names are loaded when you first use them, because the routers in this package work without langgraph.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
