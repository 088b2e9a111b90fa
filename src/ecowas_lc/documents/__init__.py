"""Documents that answers are based on: read, split into passages, searched, and used to check answers."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
