"""``manifold tail``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import click

from streams.cli.output import echo
from streams.config.runtime import Runtime
from streams.errors import Fatal
from streams.instruments import instrument_name
from streams.kafka.reader import LogReader, LogRecord
from streams.kafka.registry import open_codec
from streams.records.topics import TOPICS
from streams.replay.tail import record_json, records, start_offset

POLL_S = 0.25


@click.command()
@click.argument("topic")
@click.option("--instrument", help="Print only the records of this instrument.  [default: all]")
@click.option(
    "--from",
    "where",
    default="start",
    show_default=True,
    help="Begin at start, end, -N (records per partition), -24h, @<epoch ms>, or a time (UTC) "
    "such as 2014-05-01.",
)
@click.option(
    "-n",
    "--num",
    type=click.IntRange(1),
    help="Stop after this many records.  [default: at the end of the log]",
)
@click.option("--last", type=click.IntRange(1), help="Print only the newest N existing records.")
@click.option("-f", "--follow", is_flag=True, help="Continue with new records as they arrive.")
@click.option("--pretty", is_flag=True, help="Print a record over several lines, as rpk does.")
@click.option("--json", "_json", is_flag=True, help="Print JSON lines (the default).")
def tail(
    topic: str,
    instrument: str | None,
    where: str,
    num: int | None,
    last: int | None,
    follow: bool,
    pretty: bool,
    _json: bool,
) -> None:
    """Print the records of TOPIC as JSON, in the format of `rpk topic consume`.

    Only committed records are printed (rpk: --read-committed).

    \b
    Examples:
      manifold tail risk.weights --last 1 --pretty
      manifold tail sep.signals --instrument EUR_USD --from -2h
      manifold tail opt.gates --from end --follow
      manifold tail dead.letters -n 10
    """
    runtime = Runtime.from_env()
    name = topic.removeprefix(runtime.topic_prefix)
    if name not in TOPICS:
        raise Fatal(f"there is no topic {topic}; topics: {', '.join(TOPICS)}")
    codec = asyncio.run(open_codec(runtime))
    key = None if instrument is None else instrument_name(instrument)
    found: Iterable[LogRecord] = _read(runtime, name, key, where, follow)
    if last:
        found = deque(found, maxlen=last)
    style: dict[str, Any] = {"indent": 2} if pretty else {"separators": (",", ":")}
    with contextlib.suppress(KeyboardInterrupt):
        for record in itertools.islice(found, num):
            shown = record_json(codec, record, runtime.topic(name))
            echo(json.dumps(shown, **style, ensure_ascii=False))


def _read(
    runtime: Runtime, topic: str, instrument: str | None, where: str, follow: bool
) -> Iterator[LogRecord]:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(LogReader(runtime))
        partitions = first.partitions(topic)
        now = datetime.now(UTC)
        starts = {p: start_offset(first, topic, p, where, now) for p in partitions}
        readers = [(stack.enter_context(LogReader(runtime)), p) for p in partitions]
        while True:
            ends = {p: first.bounds(topic, p)[1] for p in partitions}
            busy = [(reader, p) for reader, p in readers if starts[p] < ends[p]]
            spans = {p: (starts[p], ends[p]) for p in partitions}
            yield from records(busy, topic, spans, instrument)
            starts = {p: max(starts[p], ends[p]) for p in partitions}
            if not follow:
                return
            time.sleep(POLL_S)
