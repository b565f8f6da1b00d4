"""Resume points of a feed: the last candle of each instrument in the log."""

from __future__ import annotations

from collections.abc import Sequence

from streams.candles.columns import SeriesKey
from streams.config.runtime import Runtime
from streams.feeds.oanda_instrument import Resume
from streams.feeds.survey import Survey, survey
from streams.instants import GRANULARITY_MS
from streams.kafka.partitioner import partition_of
from streams.records.codec import Codec
from streams.records.control import ControlLog

TAIL_MS = 4 * 86_400_000
"""Longer than a weekend, so that the candles before a weekend are found in the tail of the log."""


def resumes(
    runtime: Runtime,
    codec: Codec,
    instruments: Sequence[str],
    granularity: str,
    partitions: int,
    start_ms: int,
    now_ms: int,
    control: ControlLog,
) -> dict[str, Resume]:
    """Return the resume point of each instrument; ``start_ms`` if the log has no candle of it.

    Parameters
    ----------
    partitions
        Number of partitions of ``md.candles``.
    start_ms
        Start of the first bar to write.
    now_ms
        Wall clock.
    control
        ``ops.control``, read to its end.
    """
    keys = [SeriesKey(name, granularity) for name in instruments]

    def look(some: Sequence[SeriesKey], stamped_from_ms: int | None) -> Survey:
        numbers = sorted({partition_of(key.instrument.encode(), partitions) for key in some})
        return survey(
            *(runtime, codec, numbers, some, 0, control, now_ms),
            stamped_from_ms=stamped_from_ms,
            source="oanda",
        )

    found = look(keys, now_ms - TAIL_MS)
    older = [key for key in keys if found.last_bar_ms(key) < 0]
    if older:
        whole = look(older, None)
        for key in older:
            if key in whole.series:
                found.series[key] = whole.series[key]
            if key in whole.watermark_ms:
                found.watermark_ms[key] = whole.watermark_ms[key]
    length = GRANULARITY_MS[granularity]
    return {key.instrument: _resume(found, key, length, start_ms) for key in keys}


def _resume(found: Survey, key: SeriesKey, length: int, start_ms: int) -> Resume:
    last_bar_ms, watermark_ms = found.last_bar_ms(key), found.watermark_ms.get(key, -1)
    if last_bar_ms < 0:
        # begun but without a candle yet: continue directly after its opening watermark
        return Resume(start_ms if watermark_ms < 0 else min(start_ms, watermark_ms))
    series, versions = found.series[key], dict[int, set[int]]()
    for bar_ms, mark in zip(series.bars, series.digests, strict=True):
        versions.setdefault(bar_ms, set()).add(mark)
    return Resume(max(last_bar_ms + length, watermark_ms), last_bar_ms, versions)
