"""Tune Python's cyclic garbage collector for records without reference cycles."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 50_000


def tune_gc() -> None:
    """Freeze all objects that exist now, and collect less often.

    Called after initialisation, before the first record. Events, frames and rows have no reference
    cycles and are freed by reference counting. Scanning them and all loaded modules took about a
    third of the time of the signals stage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
