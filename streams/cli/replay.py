"""``manifold replay``."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import click
from rich.console import Console

from streams.codec import locked_codec
from streams.errors import Fatal
from streams.feed.load import LoadReport, merged, read_series
from streams.feed.writer import bars_of
from streams.replay.files import derive
from streams.replay.log_reader import LogRecord
from streams.replay.tail import as_json
from streams.settings import Config, Runtime
from streams.topics import DEAD_LETTERS, GATES, MANIFOLDS, SIGNALS, WEIGHTS

DERIVED = (SIGNALS, MANIFOLDS, GATES, WEIGHTS, DEAD_LETTERS)


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--topic", "topics", multiple=True, help=f"Only these: {', '.join(DERIVED)}.")
@click.option("--instrument", help="What the files hold, where neither rows nor names say.")
@click.option("--granularity", help="Bar length, likewise.")
@click.option("--json", "_json", is_flag=True, help="JSON lines (the default; for symmetry).")
def replay(
    files: tuple[str, ...],
    topics: tuple[str, ...],
    instrument: str | None,
    granularity: str | None,
    _json: bool,
) -> None:
    """Run the same steps over candle FILES, with no broker; print the records as JSON lines.

    Keys, values and time stamps are those that the worker writes for the same candles.

    \b
    Examples:
      manifold replay EUR_USD-M1.csv.gz --topic sep.signals
      manifold replay EUR_USD-M1.csv.gz NZD_USD-M1.csv.gz --topic risk.weights
    """
    unknown = [topic for topic in topics if topic not in DERIVED]
    if unknown:
        raise Fatal(f"{', '.join(unknown)} is not derived; choose of {', '.join(DERIVED)}")
    asyncio.run(_replay(files, topics or DERIVED, instrument, granularity))


async def _replay(
    files: tuple[str, ...],
    topics: tuple[str, ...],
    instrument: str | None,
    granularity: str | None,
) -> None:
    config, report, console = Config.from_env(), LoadReport(), Console(stderr=True)
    found = read_series(files, instrument, granularity, report, int(time.time() * 1000))
    for refused in report.refused[:20]:
        console.print(f"{refused.file}:{refused.line}: refused: {refused.reason}: {refused.detail}")
    if len(report.refused) > 20:
        console.print(f"... and {len(report.refused) - 20:,} more refused")
    series = {key: one for key, one in found.items() if key.granularity == config.candle_gran}
    if not series:
        there = sorted({key.granularity for key in found}) or ["no candles"]
        raise Fatal(f"the files hold {', '.join(there)}, CANDLE_GRAN is {config.candle_gran}")
    codec = locked_codec()
    chunks = derive(
        config,
        bars_of(merged(series)),
        sorted(key.instrument for key in series),
        min(int(one.bars()[0]) for one in series.values()),
        max(int(one.bars()[-1]) for one in series.values()) + config.granularity_ms,
        Runtime.from_env().topic_partitions,
        codec,
    )
    async for derived in chunks:
        for record, output in derived:
            if record.topic in topics:
                headers = {k: v.decode() for k, v in output.headers}
                shown: dict[str, Any] = as_json(codec, LogRecord(record, headers), record.topic)
                click.echo(json.dumps(shown, separators=(",", ":"), ensure_ascii=False))
