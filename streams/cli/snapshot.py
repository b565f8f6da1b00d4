"""``manifold snapshot``."""

from __future__ import annotations

import json
import sys
import time

import click

from streams.cli.candle_files import exit_code, say_refused
from streams.feed.file_names import file_names
from streams.feed.load import read_series
from streams.feed.load_report import LoadReport
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

    One object, or one line for each instrument and bar length where the file holds several. Exit
    code 3: rows were refused, and each object counts them (refused_rows).

    \b
    Examples:
      manifold snapshot EUR_USD-M1.csv.gz
      manifold snapshot candles.json --instrument EUR_USD --granularity M5 | jq .metrics
    """
    config, report = Config.from_env(), LoadReport()
    name, length = file_names(file, instrument, granularity)
    given = (name or UNNAMED, length or config.candle_gran)
    found = read_series([file], *given, report, int(time.time() * 1000))
    say_refused(report)
    report.require_candles(found)
    if not found:
        click.echo(json.dumps(manifold_snapshot(given[0], [], config)))
    for key in sorted(found):
        shown = manifold_snapshot(key.instrument, list(found[key].candles()), config)
        if report.refused:
            shown["refused_rows"] = report.refused_rows()
        click.echo(json.dumps(shown, indent=2 if pretty else None))
    sys.exit(exit_code(report))
