"""What a test's processes take over from the environment of the run."""

from __future__ import annotations

import os

PREFIXES = ("LC_", "WALLCLOCK_")
NAMES = ("PATH", "HOME", "LANG", "LOCPATH", "TZ", "LD_PRELOAD")


def kept_environment() -> dict[str, str]:
    """Return place, language, time zone and clock of the run, and none of its settings."""
    return {k: v for k, v in os.environ.items() if k in NAMES or k.startswith(PREFIXES)}
