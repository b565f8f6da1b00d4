"""What the state of the stages ``signals`` and ``gates`` weighs, and how fast it is opened."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.candles.columns import CandleColumns
from streams.config.runtime import Runtime
from streams.kafka.client import confluent_config, producer_config
from streams.pipeline.processor import record_key
from streams.pipeline.worker.changelog import restore_rows
from streams.records.control import ControlLog
from streams.records.events import Candle, Event, Ohlc, Watermark
from streams.records.log_record import Rows, SourceRecord
from streams.records.topics import CANDLES, MANIFOLDS
from streams.stack.kafka import KafkaBroker
from tests.perf.backtest_columns import LOOSE, MINUTE_MS, market_columns
from tests.perf.rows import ROUNDS, Row, row
from tests.support.stage_bench import CODEC, config_record, control_log, stage_named

NAME, DAYS, INSTRUMENTS, PARTITIONS = "EUR_USD", 60, 28, 4
LIMIT_BYTES = 2_048
POSITION = b"~position"
State = dict[bytes, bytes]


def rows() -> list[Row]:
    """Measure and return the rows of the table."""
    control = control_log(config_record(**LOOSE))
    bars = market_columns(DAYS * 1_440, 3)
    last_ms = int(bars.bar_ms[0]) + DAYS * 86_400_000
    bars = bars.where(bars.bar_ms < last_ms)
    kept, written = _folded(bars, control)
    states = {stage: _many(state) for stage, state in kept.items()}
    opened = {stage: _open_seconds(stage, control, state) for stage, state in states.items()}
    size = sum(len(k) + len(v) for state in states.values() for k, v in state.items())
    note = f"{INSTRUMENTS} instruments, {size / 1e6:.1f} MB of rows"
    per_candle = {stage: count / len(bars.bar_ms) for stage, count in written.items()}
    parts = ", ".join(f"{stage} {count:,.0f}" for stage, count in per_candle.items())
    return [
        row(
            "state.changelog",
            f"changelog of signals and gates, {DAYS} days",
            sum(per_candle.values()),
            "bytes/candle",
            "bytes of keys and values / candles, a candle and its watermark a batch",
            note=f"target: at most {LIMIT_BYTES:,}; {parts}",
        ),
        row(
            "state.open",
            f"opening signals and gates of {DAYS} days from rows at hand",
            sum(opened.values()),
            "s",
            f"the two stages' seconds added, median of {ROUNDS} runs each",
            note=note + "".join(f"; {stage} {s:.3f} s" for stage, s in opened.items()),
        ),
        row(
            "state.restore",
            "restoring the same rows from changelogs on Kafka",
            _restore_seconds(states),
            "s",
            "the two stages' seconds, one after the other, one run",
            note=f"{note}; every row once, as compaction leaves them; {PARTITIONS} partitions",
        ),
    ]


def _folded(bars: CandleColumns, control: ControlLog) -> tuple[dict[str, State], dict[str, int]]:
    """Fold candles one a batch; return the rows of both stages and the bytes that they wrote."""
    processors = {name: stage_named(name, control).open(0, {}) for name in ("signals", "gates")}
    rows_of: dict[str, State] = {name: {} for name in processors}
    written = dict.fromkeys(processors, 0)
    offsets = dict.fromkeys(processors, 0)

    def fold(stage: str, records: list[SourceRecord]) -> list[Any]:
        batch = processors[stage].process(records)
        offsets[stage] += len(records)
        changes = processors[stage].changes() | {POSITION: b"%d" % offsets[stage]}
        for key, content in changes.items():
            written[stage] += len(key) + len(content or b"")
            if content is None:
                rows_of[stage].pop(key, None)
            else:
                rows_of[stage][key] = content
        return batch.outputs

    first = Watermark(int(bars.bar_ms[0]), "M1", control.end, (NAME,))
    source = [_record(CANDLES, first, 0)]
    for candle in _candles(bars):
        mark = Watermark(candle.as_of_ms, "M1", control.end, (NAME,))
        at = offsets["signals"] + len(source)
        source += [_record(CANDLES, candle, at), _record(CANDLES, mark, at + 1)]
        outputs = fold("signals", source)
        source = []
        at = offsets["gates"]
        manifolds = [one for one in outputs if one.topic == MANIFOLDS]
        fold(
            "gates",
            [
                SourceRecord(one.topic, 0, at + i, one.timestamp_ms, one.key, one.value)
                for i, one in enumerate(manifolds)
            ],
        )
    for state in rows_of.values():
        del state[POSITION]
    return rows_of, written


def _record(topic: str, event: Event, offset: int) -> SourceRecord:
    stamp = getattr(event, "as_of_ms", 0)
    return SourceRecord(topic, 0, offset, stamp, record_key(event), CODEC.encode(topic, event))


def _candles(bars: CandleColumns) -> list[Candle]:
    columns = (bars.bar_ms.tolist(), bars.prices.T.tolist(), bars.volume.tolist())
    return [
        Candle(
            NAME,
            "M1",
            bar_ms,
            bar_ms + MINUTE_MS,
            Ohlc(*prices[:4]),
            Ohlc(*prices[4:8]),
            Ohlc(*prices[8:]),
            True,
            volume,
            "file",
        )
        for bar_ms, prices, volume in zip(*columns, strict=True)
    ]


def _many(state: Rows) -> State:
    """Return the rows as if there were many instruments with the same past."""
    found = {key: content for key, content in state.items() if b"/" not in key}
    for number in range(INSTRUMENTS):
        name = f"A{chr(65 + number // 26)}{chr(65 + number % 26)}_USD".encode()
        for key, content in state.items():
            _, slash, row = key.rpartition(b"/")
            if slash:
                found[name + slash + row] = content
    return found


def _open_seconds(stage: str, control: ControlLog, state: Rows) -> float:
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        stage_named(stage, control).open(0, state)
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def _restore_seconds(states: dict[str, State]) -> float:
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as place:
        broker = KafkaBroker(Path(place) / "kafka")
        broker.start()
        try:
            runtime = Runtime.from_env({"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap})
            for stage, state in states.items():
                _write(runtime, stage, state)
            begun = time.perf_counter()
            for stage, state in states.items():
                found = restore_rows(runtime, stage, range(PARTITIONS))
                assert sum(len(one.rows) for one in found.values()) == len(state)
            return time.perf_counter() - begun
        finally:
            broker.stop()


def _write(runtime: Runtime, topic: str, state: State) -> None:
    wanted = NewTopic(topic, PARTITIONS, 1, config={"cleanup.policy": "compact"})
    admin = AdminClient(confluent_config(runtime))
    for created in admin.create_topics([wanted]).values():
        created.result()
    producer = Producer(producer_config(runtime))
    for key, content in state.items():
        producer.produce(topic, content, key)
        producer.poll(0)
    producer.flush()


if __name__ == "__main__":
    for measured in rows():
        print(measured)
