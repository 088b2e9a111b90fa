"""The supervisor: finds the working groups that a question concerns, asks them, and combines their answers.

Names are loaded on first use, because the routers in this package work without langgraph.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
