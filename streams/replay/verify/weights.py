"""Fast path of verify: the stage ``weights`` over the decision fields that an epoch uses.

Only these fields are decoded, for many decisions at once; the fold is that of the stage. If
anything differs or cannot be decoded here, the stage itself decides
(``streams.replay.verify.verify``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, starmap
from typing import Any, NamedTuple

import numpy as np

from streams.pipeline.processor import ENGINE_HEADER, decoded_source
from streams.pipeline.weights import Verdict, WeightsStep
from streams.records.bulk import BulkRecords
from streams.records.codec import Codec, DecodeError
from streams.records.control import ControlLog
from streams.records.events import PORTFOLIO_KEY, EchoGate, Watermark, Weights
from streams.records.log_record import SourceRecord
from streams.records.topics import GATES, WEIGHTS
from streams.replay.verify.columns import are_records, later_record, source_in
from streams.replay.verify.report import LaterRecords
from streams.replay.verify.rows import Expected, FastPathDeclined


class Decisions(NamedTuple):
    """A batch of ``opt.gates``, one element per record.

    Attributes
    ----------
    instruments, verdicts
        Instruments and verdicts of the decisions; undefined at the indices in ``others``.
    others
        Index -> event that is not a decision.
    """

    instruments: list[str]
    verdicts: list[Verdict]
    others: dict[int, Watermark]


class DecisionReader:
    """Decodes the fields of ``opt.gates`` that an epoch uses.

    Parameters
    ----------
    codec, control
        The schemas, and ``ops.control`` read to its end.
    """

    def __init__(self, codec: Codec, control: ControlLog) -> None:
        self._codec, self._control = codec, control
        self._bulk = BulkRecords("GateDecision", codec.schema_id(GATES, "GateDecision"))

    def read(self, messages: Sequence[Any]) -> Decisions:
        """Return a batch of the client's messages.

        Raises
        ------
        FastPathDeclined
            A record is neither a watermark of known control nor a decision of the newest schema, or
            its key or time stamp is not that of its content.
        """
        values = [message.value() for message in messages]
        n = len(values)
        instrument, as_of_ms, until_ms, mode = (np.zeros(n, np.int64) for _ in range(4))
        eligible, cooling, scored, signalled, seen = (np.zeros(n, np.bool_) for _ in range(5))
        buffer, score, hazard = np.zeros(n), np.zeros(n), np.zeros(n)
        count_1h, first_seen_ms, signal_bar_ms = (np.zeros(n, np.int64) for _ in range(3))
        plain, words = self._bulk.read(
            values,
            {
                "instrument": instrument,
                "as_of_ms": as_of_ms,
                "eligible": eligible,
                "buffer": buffer,
                "cooldown_until_ms?": cooling,
                "cooldown_until_ms": until_ms,
                "score?": scored,
                "score": score,
                "mode": mode,
                "signal_bar_ms": signal_bar_ms,
                "metrics?": signalled,
                "metrics.count_1h": count_1h,
                "metrics.lambda_hazard": hazard,
                "metrics.first_seen_ms?": seen,
                "metrics.first_seen_ms": first_seen_ms,
            },
        )
        stamps = np.array([message.timestamp()[1] for message in messages], np.int64)
        keys = words or [b""]
        keyed = all(
            message.key() == keys[place]
            for message, place, read in zip(messages, instrument.tolist(), plain, strict=True)
            if read
        )
        if not keyed or (plain & (as_of_ms > stamps)).any():
            raise FastPathDeclined
        names = [word.decode() for word in words] or [""]
        scores: list[float | None] = list(score.tolist())
        for index in np.flatnonzero(~scored).tolist():
            scores[index] = None
        columns = zip(
            *(as_of_ms.tolist(), eligible.tolist(), (cooling & (until_ms > as_of_ms)).tolist()),
            *(buffer.tolist(), scores),
            strict=True,
        )
        verdicts = list(starmap(Verdict, columns))
        in_echo_mode = np.array([word == b"echo" for word in words] or [False])[mode]
        for index in np.flatnonzero(plain & signalled & in_echo_mode).tolist():
            at_ms = int(first_seen_ms[index]) if seen[index] else None
            verdicts[index] = verdicts[index]._replace(
                echo=EchoGate(int(count_1h[index]), float(hazard[index]), at_ms),
                signal_bar_ms=int(signal_bar_ms[index]),
            )
        return Decisions(
            [names[index] for index in instrument.tolist()],
            verdicts,
            {index: self._watermark(messages[index]) for index in np.flatnonzero(~plain).tolist()},
        )

    def _watermark(self, message: Any) -> Watermark:
        try:
            at = message.offset(), message.timestamp()[1], message.key(), message.value()
            event = decoded_source(self._codec, GATES, SourceRecord(GATES, 0, *at))
        except DecodeError as error:
            raise FastPathDeclined from error
        refused = (GATES, 0, message.offset()) in self._control.refused_watermarks
        if refused or not isinstance(event, Watermark) or event.control_offset > self._control.end:
            raise FastPathDeclined
        return event


def compare_weights(
    codec: Codec,
    control: ControlLog,
    decisions: Iterator[list[Any]],
    weights: Iterator[list[Any]],
    done: int,
    progress: Callable[[str, int], None],
    later: LaterRecords,
) -> tuple[int, int]:
    """Compare ``risk.weights`` with the weights derived from ``opt.gates``.

    Parameters
    ----------
    codec, control
        The schemas, and ``ops.control`` read to its end.
    decisions
        ``opt.gates`` up to the position of the stage, as messages.
    weights
        All of ``risk.weights``, as messages.
    done
        Position of the stage in ``opt.gates``.
    progress
        Called with the topic and the number of records compared since the last call.
    later
        Takes the records derived from offsets beyond the position of the stage.

    Returns
    -------
    Number of records compared, and of records of ``opt.gates`` read.

    Raises
    ------
    FastPathDeclined
        Something is not what it should be.
    """
    step, reader = WeightsStep(control, {}), DecisionReader(codec, control)
    actual = chain.from_iterable(weights)
    compared = read = 0
    for batch in decisions:
        expected = Expected([], [], [], [])
        for index, closed in _fold(step, reader.read(batch)):
            if closed:
                _expect(expected, codec, batch[index], closed)
        messages = list(islice(actual, len(expected.values)))
        if not are_records(messages, expected):
            raise FastPathDeclined
        compared, read = compared + len(messages), read + len(batch)
        progress(WEIGHTS, len(messages))
    for message in actual:
        # records derived after the position of the stage was read
        partition, offset = source_in(message)
        if partition != 0 or offset < done:
            raise FastPathDeclined
        later.note(WEIGHTS, partition, later_record(WEIGHTS, message, offset))
    return compared, read


def _fold(step: WeightsStep, batch: Decisions) -> Iterator[tuple[int, list[Weights]]]:
    names, verdicts, others = batch
    on_decision = step.on_decision
    for index, (name, verdict) in enumerate(zip(names, verdicts, strict=True)):
        if index in others:
            yield index, step.on_watermark(others[index])
        else:
            yield index, on_decision(name, verdict)


def _expect(expected: Expected, codec: Codec, message: Any, closed: Sequence[Weights]) -> None:
    source = b"%b-0-%d" % (GATES.encode(), message.offset())
    for weights in closed:
        expected.values.append(codec.encode(WEIGHTS, weights))
        of_config = ("config_id", weights.config_id.encode())
        expected.headers.append([("source", source), ENGINE_HEADER, of_config])
        expected.keys.append(PORTFOLIO_KEY)
        expected.timestamps.append(weights.as_of_ms)
