"""``manifold warmup``."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

import click
from rich.progress import TaskID

from streams.cli import EXIT_INTERRUPTED
from streams.cli.candle_files import EXIT_REFUSED
from streams.cli.output import echo
from streams.cli.progress import progress_bar
from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.errors import Fatal
from streams.instants import clock
from streams.kafka.registry import open_codec
from streams.monitoring.clock_check import require_clock
from streams.monitoring.warmup.warm_state import PairState, missing
from streams.monitoring.warmup.warmup import STEPS, Done, Progress, Warmup, warmup_json

EXIT_DIFFERS = 1
PATIENCE_SEC = 60.0


@click.command()
@click.option(
    "--steps", default=",".join(STEPS), show_default=True, help="Run these steps, comma separated."
)
@click.option(
    "--from-files",
    "files",
    multiple=True,
    help="Fill the log from this candle file instead of from OANDA; repeatable.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    help="Fetch this many days where the log is empty.  [default: EVAL_SPAN_DAYS]",
)
@click.option(
    "--patience",
    type=click.FloatRange(1, 86_400),
    default=PATIENCE_SEC,
    show_default=True,
    help="Give up after this many seconds without progress.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: ok, steps, instruments."
)
def warmup(
    steps: str, files: tuple[str, ...], days: int | None, patience: float, as_json: bool
) -> None:
    """Fill a deployment with history so that it can decide, and list what is still missing.

    backfill: fills the log from OANDA, after the last candle of each pair (or from files with
    --from-files). prime: waits until every stage has processed all of it. hydrate: waits for the
    mirror and compares Valkey with the log, pair by pair. Every signal is derived from candles. If
    interrupted, run the same command again: it continues. Workers and the mirror must be running.

    Exit code 0: all steps done (history that is still missing is listed and is no failure); 1: some
    pair differs; 2: no source to fill the log from, or a file was refused as a whole; 3: rows of
    files were refused; 75: no progress, or a service is unavailable; 130: interrupted.

    \b
    Examples:
      manifold warmup
      manifold warmup --from-files EUR_USD-M1.csv.gz --from-files USD_JPY-M1.csv.gz
      manifold warmup --steps prime,hydrate --json | jq .instruments
    """
    wanted = [name.strip() for name in steps.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in STEPS]
    if unknown or not wanted:
        raise Fatal(f"--steps {steps!r}: the steps are {', '.join(STEPS)}")
    logging.getLogger("streams").setLevel(logging.ERROR)
    runtime = Runtime.from_env()
    require_clock(runtime)
    try:
        with progress_bar(quiet=as_json) as bar:
            tasks: dict[str, TaskID] = {}

            def progress(what: str, done: int, total: int | None) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, total=total)

            found, states, config = asyncio.run(
                _run(wanted, runtime, files, days, patience, progress)
            )
    except KeyboardInterrupt:
        echo("manifold: stopped; the same command continues from here", err=True)
        # a write in a thread is aborted as by SIGKILL, after which a load can be repeated
        os._exit(EXIT_INTERRUPTED)
    if as_json:
        echo(json.dumps(warmup_json(found, states, config)))
    else:
        for line in warmup_lines(found, states, config):
            echo(line)
    if any(step.problems and not step.refused for step in found):
        sys.exit(EXIT_DIFFERS)
    sys.exit(EXIT_REFUSED if any(step.refused for step in found) else 0)


async def _run(
    wanted: list[str],
    runtime: Runtime,
    files: tuple[str, ...],
    days: int | None,
    patience: float,
    progress: Progress,
) -> tuple[list[Done], list[PairState], Config]:
    codec = await open_codec(runtime)
    this = Warmup(
        os.environ, codec, files=files, days=days, patience_sec=patience, progress=progress
    )
    found = await this.run(wanted)
    return found, await this.states(), await this.config()


def warmup_lines(steps: list[Done], states: list[PairState], config: Config) -> list[str]:
    """Return the result of a warm-up as text."""
    said = []
    for step in steps:
        said.append(f"{step.step:<9} {step.detail} ({step.seconds:.1f} s)")
        said += [f"{'':9} NO {name}: {why}" for name, why in step.problems.items()]
    said.append("still missing:")
    for state in states:
        if state.candle_ms is None:
            said.append(f"  {state.instrument:<9} no candle in the log")
        else:
            needs = missing(state, config).words()
            said.append(f"  {state.instrument:<9} {needs} (up to {clock(state.candle_ms)} UTC)")
    return said
