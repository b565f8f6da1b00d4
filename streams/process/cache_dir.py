"""Cache directory of downloaded programs and archives."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache directory: ``MANIFOLD_CACHE``, or ``~/.cache/manifold``."""
    chosen = os.environ.get("MANIFOLD_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "manifold"
