"""What doctor says of Valkey's memory, by what the server tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from streams.mirror.server_check import MIB, _memory
from streams.mirror.shapes import Retention
from streams.mirror.sizing import memory_need

GIB = 1 << 30
BOUNDED, ALL = Retention(20_000, 20_000), Retention(0, 20_000)


def told(retention: Retention = BOUNDED, pairs: int = 8, **info: Any) -> tuple[str, str, str]:
    """Return state, detail and action for a server that is as most are, but for ``info``."""
    usual = {
        "maxmemory": GIB,
        "maxmemory_policy": "noeviction",
        "used_memory": 50 * MIB,
        "total_system_memory": 4 * GIB,
    }
    found = _memory(usual | info, memory_need(pairs, 60_000, retention), pairs)
    return found.state, found.detail, found.action


def test_it_says_what_the_pairs_take() -> None:
    state, detail, _ = told()
    assert state == "ok" and "8 pairs take 208 MiB" in detail


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_policy_that_may_evict_the_kill_switch_is_a_failure(policy: str) -> None:
    state, detail, action = told(maxmemory_policy=policy)
    assert state == "fail" and policy in detail and "kill switch" in detail
    assert "noeviction" in action
    state, detail, _ = told(maxmemory_policy=policy, maxmemory=0)
    assert state == "warn" and policy in detail


def test_a_server_that_is_too_small_is_a_warning() -> None:
    state, detail, action = told(maxmemory=128 * MIB)
    assert state == "warn" and "maxmemory is 128 MiB" in detail
    assert "VALKEY_SIGNAL_RETENTION" in action
    state, detail, _ = told(maxmemory=0, total_system_memory=200 * MIB)
    assert state == "warn" and "its machine has 200 MiB" in detail
    assert told(maxmemory=0)[0] == "ok"


def test_one_that_is_nearly_full_and_one_that_grows_are_warnings() -> None:
    assert told(used_memory=950 * MIB)[0] == "warn"
    state, detail, _ = told(ALL)
    assert state == "warn" and "grows without limit, by 999 MiB a year" in detail


def test_a_server_that_does_not_tell_its_policy_is_not_blamed_for_it() -> None:
    assert told(maxmemory_policy="unknown")[0] == "ok"
