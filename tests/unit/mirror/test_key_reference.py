"""The reference of the keys in Valkey is that of the code, and no list takes what is another's."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from streams.mirror.key_reference import PLACE, document
from streams.mirror.keys import (
    KEYS,
    KEYS_NOT_WRITTEN,
    KEYS_OF_OTHERS,
    KEYS_OF_PROCESSES,
    KEYS_OF_THE_SERVICE,
    KEYS_ON_DEMAND,
    KeyKind,
    day_manifold_key,
)

OTHERS = (*KEYS_OF_OTHERS, *KEYS_OF_THE_SERVICE, *KEYS_OF_PROCESSES, *KEYS_ON_DEMAND)


def test_the_reference_is_that_of_the_code() -> None:
    kept = PLACE.read_text(encoding="utf-8")
    assert kept == document(), "run: python -m streams.mirror.key_reference"


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.pattern)
def test_a_rebuild_takes_nothing_of_others(kind: KeyKind) -> None:
    name = kind.pattern.replace("{INST}", "EUR_USD").replace("{day}", "2014-05-30")
    assert not [one.glob for one in KEYS if fnmatchcase(name, one.glob)]


def test_the_key_of_a_day_is_found_by_its_pattern() -> None:
    (glob,) = [kind.glob for kind in KEYS_ON_DEMAND if kind.pattern.startswith("manifold:")]
    assert fnmatchcase(day_manifold_key("EUR_USD", "2014-05-30"), glob)
    assert not fnmatchcase("manifold:mirror:as_of", glob)


def test_every_key_of_the_original_is_written_or_has_what_to_use_instead() -> None:
    written = [kind.pattern for kind in (*KEYS, *OTHERS)]
    instead = [kind.pattern for kind in KEYS_NOT_WRITTEN]
    for key in (
        *("md:candles:", "sep:signal:", "sep:signal_index:", "ws:last:manifold:"),
        *("ws:manifold:hist:", "bt:rolling:summary:", "bt:rolling:hist:"),
        *("opt:rolling:eligible:", "opt:rolling:gates_blob", "opt:rolling:passes:"),
        *("opt:rolling:fails:", "opt:rolling:misses:", "opt:rolling:cooldown:"),
        *("opt:best_config:", "opt:best_config_meta:", "risk:allocation_weights"),
        *("opt:allocator:status", "ops:kill_switch", "risk:alloc_budget"),
        *("opt:backtests:report:latest", "sep:ledger:events", "manifold:{INST}:{day}"),
    ):
        assert [pattern for pattern in written if pattern.startswith(key)], key
    for key in ("manifold:metrics:latest", "bt:trial:"):
        assert [pattern for pattern in instead if pattern.startswith(key)], key
