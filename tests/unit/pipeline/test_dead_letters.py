"""Dead letters hold the refused bytes, as far as a broker takes a record of that size."""

from __future__ import annotations

import pytest

from streams.pipeline.processor import dead_letter, record_key
from streams.records.log_record import SourceRecord
from streams.records.topics import CANDLES, DEAD_LETTERS
from tests.support.stage_bench import CODEC

MOST = 1_000_000
"""``message.max.bytes`` of librdkafka."""


def letter(key: bytes | None, value: bytes | None) -> tuple[bytes | None, bytes | None, str, int]:
    made = dead_letter(SourceRecord(CANDLES, 0, 7, 0, key, value), "bad_magic", "junk", "signals")
    size = len(CODEC.encode(DEAD_LETTERS, made)) + len(record_key(made))
    return made.key, made.value, made.detail, size


@pytest.mark.parametrize("value", [None, b"", b"junk", b"x" * 900_000])
def test_the_bytes_are_kept_whole(value: bytes | None) -> None:
    assert letter(b"EUR_USD", value)[:3] == (b"EUR_USD", value, "junk")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"k", 1_048_000),
        (b"k" * 600_000, 400_000),
        (b"k" * 1_048_000, 0),
        (b"k" * 400_000, 300_000),
    ],
)
def test_what_no_broker_would_take_is_cut_and_says_so(key: bytes, value: int) -> None:
    kept_key, kept_value, detail, size = letter(key, b"x" * value)
    assert size < MOST
    assert key.startswith(kept_key or b"")
    assert (b"x" * value).startswith(kept_value or b"")
    assert detail == f"junk (cut: key of {len(key)} bytes, value of {value})"
