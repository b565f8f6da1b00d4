"""Where programs and archives are kept that are fetched once."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return where fetched jars are kept: ``MANIFOLD_CACHE``, else ``~/.cache/manifold``."""
    chosen = os.environ.get("MANIFOLD_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "manifold"
