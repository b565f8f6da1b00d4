"""``manifold snapshot``."""

from __future__ import annotations

import json
import time

import click

from streams.errors import Fatal
from streams.feed.load import LoadReport, read_series
from streams.feed.series import Series, SeriesKey
from streams.replay.snapshot import manifold_snapshot
from streams.settings import Config

UNNAMED = "UNKNOWN"


@click.command()
@click.argument("file")
@click.option("--instrument", help="What the file holds, where neither rows nor name say.")
@click.option("--granularity", help="Bar length, likewise.  [default: CANDLE_GRAN]")
@click.option("--pretty", is_flag=True, help="Indented.")
@click.option("--json", "_json", is_flag=True, help="JSON (the default; for symmetry).")
def snapshot(
    file: str, instrument: str | None, granularity: str | None, pretty: bool, _json: bool
) -> None:
    """Print the manifold of a FILE of candles as JSON, with the original's windows and fields.

    One object, or one line for each instrument and bar length where the file holds several.

    \b
    Examples:
      manifold snapshot EUR_USD-M1.csv.gz
      manifold snapshot candles.json --instrument EUR_USD --granularity M5 | jq .metrics
    """
    config, report = Config.from_env(), LoadReport()
    found = _read(file, instrument, granularity, config, report)
    for refused in report.refused[:20]:
        click.echo(
            f"{refused.file}:{refused.line}: refused: {refused.reason}: {refused.detail}", err=True
        )
    if len(report.refused) > 20:
        click.echo(f"... and {len(report.refused) - 20:,} more refused", err=True)
    if not found and report.refused:
        raise Fatal(f"{file} holds no candle that can be used")
    if not found:
        click.echo(json.dumps(manifold_snapshot(instrument or UNNAMED, [], config)))
    for key in sorted(found):
        shown = manifold_snapshot(key.instrument, list(found[key].candles()), config)
        click.echo(json.dumps(shown, indent=2 if pretty else None))


def _read(
    file: str,
    instrument: str | None,
    granularity: str | None,
    config: Config,
    report: LoadReport,
) -> dict[SeriesKey, Series]:
    now_ms = int(time.time() * 1000)
    found = read_series([file], instrument, granularity, report, now_ms)
    reasons = {refused.reason for refused in report.refused}
    if found or not reasons & {"no_instrument", "no_granularity"}:
        return found
    report.refused.clear()
    if "no_instrument" in reasons:
        instrument = UNNAMED
    return read_series([file], instrument, granularity or config.candle_gran, report, now_ms)
