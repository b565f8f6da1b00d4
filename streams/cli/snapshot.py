"""``manifold snapshot``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from streams.cli.candle_files import exit_code, say_refused
from streams.cli.output import echo
from streams.cli.snapshot_sources import Sources, day, source_of
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.mirror.snapshots import read_day, store_day
from streams.replay.manifold_files import (
    day_name,
    file_in,
    read_manifold,
    text_of_manifold,
    write_manifold,
)
from streams.replay.snapshot import manifold_snapshot
from streams.replay.snapshot_candles import Selection
from streams.replay.tail import when_ms

VALKEY = "valkey"


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--at",
    help="Compute as of this time: UTC, @<epoch ms>, or relative such as -2h.  "
    "[default: the newest candle]",
)
@click.option(
    "--day", "day_texts", multiple=True, help="Compute a manifold of this UTC day; repeatable."
)
@click.option(
    "--days",
    type=click.IntRange(1, 3_660),
    help="Compute a manifold for each of the newest N UTC days.",
)
@click.option(
    "--candles",
    type=click.IntRange(1),
    help="Cover the newest N candles.  [default: CANDLE_COUNT of log and Valkey, all of a file]",
)
@click.option("--instrument", help="Set the instrument of a file that names none.")
@click.option(
    "--granularity",
    help="Set the bar length of a file that names none, and of the log.  [default: CANDLE_GRAN]",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    help="Write to a file (.gz packs it), to a folder (output/manifolds/: EUR_USD/2014-05-30.json) "
    "or to valkey (key manifold:EUR_USD:2014-05-30, 35 days); repeatable.  [default: print]",
)
@click.option(
    "--read",
    "read_back",
    is_flag=True,
    help="Read the sources as manifold files: check and print them.",
)
@click.option("--pretty", is_flag=True, help="Print indented JSON.")
@click.option("--json", "_json", is_flag=True, help="Print JSON (the default).")
def snapshot(
    sources: tuple[str, ...],
    at: str | None,
    day_texts: tuple[str, ...],
    days: int | None,
    candles: int | None,
    instrument: str | None,
    granularity: str | None,
    outputs: tuple[str, ...],
    read_back: bool,
    pretty: bool,
    _json: bool,
) -> None:
    """Compute the manifold of a range of candles as JSON, with the original's windows and fields.

    A SOURCE is an instrument (EUR_USD: the log), valkey:EUR_USD (md:candles in Valkey), a file of
    candles, or - for standard input; the output of manifold tail and rpk topic consume for
    md.candles is such a file. Prints one object per line, for each instrument, bar length and day.
    The fields, and the files and keys that --output writes, are in docs/manifold-files.md; --read
    reads them back.

    Exit code 3: rows of a file were refused, and each object counts them (refused_rows).

    \b
    Examples:
      manifold snapshot EUR_USD USD_JPY --at 2014-05-27T15:00
      manifold snapshot EUR_USD --days 14 --output output/manifolds/ --output valkey
      manifold snapshot valkey:EUR_USD:2014-05-27:2014-05-28 | jq .metrics
      manifold snapshot candles.json --instrument EUR_USD --granularity M5
      manifold tail md.candles --instrument EUR_USD --from -24h | manifold snapshot -
      manifold snapshot --read output/manifolds/EUR_USD/2014-05-27.json --pretty
    """
    if read_back:
        if at or day_texts or days or candles or instrument or granularity:
            raise Fatal("--read takes finished manifolds: the options about candles do not apply")
        gran = Config.from_env().candle_gran
        _put([(_read(source), gran) for source in sources], outputs, pretty)
        return
    if bool(day_texts) + bool(days) + bool(candles) > 1:
        raise Fatal("--day, --days and --candles exclude each other; give one of them")
    now_ms = int(time.time() * 1000)
    at_ms = None if at is None else when_ms("--at", at, datetime.fromtimestamp(now_ms / 1000, UTC))
    chosen_days = tuple(sorted({day("--day", text) for text in day_texts}))
    chosen = Selection(at_ms, chosen_days, candles, days or 0)
    read = Sources(chosen, instrument, granularity, now_ms)
    made: list[tuple[dict[str, Any], str]] = []
    for source in sources:
        for found in read.read(source_of(source)):
            manifold = manifold_snapshot(found.instrument, found.candles, found.config)
            made.append((manifold, found.config.candle_gran))
    if read.report.refused:
        for manifold, _ in made:
            manifold["refused_rows"] = read.report.refused_rows()
    say_refused(read.report)
    _put(made, outputs, pretty)
    sys.exit(exit_code(read.report))


def _read(source: str) -> dict[str, Any]:
    if source.startswith("manifold:") and not Path(source).exists():
        return asyncio.run(read_day(Runtime.from_env(), source))
    return read_manifold(source)


def _put(
    manifolds: Sequence[tuple[dict[str, Any], str]], outputs: tuple[str, ...], pretty: bool
) -> None:
    """Write manifolds, or print them."""
    if not outputs:
        for manifold, _ in manifolds:
            echo(text_of_manifold(manifold, pretty=pretty))
        return
    empty = [manifold["instrument"] for manifold, _ in manifolds if not manifold["count"]]
    if empty:
        raise Fatal(f"{', '.join(empty)}: no candles, so there is nothing to write")
    single = [o for o in outputs if o != VALKEY and not _is_folder(o)]
    if single and len(manifolds) > 1:
        raise Fatal(
            f"--output {single[0]} is one file and there are {len(manifolds)} manifolds; name a "
            "folder, ending in a slash"
        )
    for manifold, candle_gran in manifolds:
        for output in outputs:
            place = _write(manifold, candle_gran, output, pretty)
            echo(f"{manifold['instrument']} {day_name(manifold)}: {place}", err=True)


def _is_folder(output: str) -> bool:
    return output.endswith("/") or Path(output).is_dir()


def _write(manifold: dict[str, Any], candle_gran: str, output: str, pretty: bool) -> str:
    if output == VALKEY:
        if manifold["granularity"] != candle_gran:
            raise Fatal(
                f"the key of a day holds bars of CANDLE_GRAN={candle_gran}, this manifold has "
                f"{manifold['granularity']}; write it to a folder"
            )
        return asyncio.run(store_day(Runtime.from_env(), manifold))
    path = Path(output)
    if _is_folder(output):
        path = file_in(path, manifold, candle_gran)
    write_manifold(path, manifold, pretty=pretty)
    return str(path)
