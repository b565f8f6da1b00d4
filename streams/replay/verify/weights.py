"""A fast yes of a verification: the stage ``weights`` over what an epoch needs of a decision.

Of each decision only that part is read, many at a time; the fold is the stage's own. Where anything
is not the same, or cannot be read so, the stage itself has the word
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
from streams.replay.verify.columns import are_records, source_in
from streams.replay.verify.rows import Expected, FastPathDeclined


class Decisions(NamedTuple):
    """A batch of ``opt.gates``, one place for each record.

    Attributes
    ----------
    instruments, verdicts
        Of the decisions; without meaning where ``others`` has something.
    others
        Place -> what is no decision.
    """

    instruments: list[str]
    verdicts: list[Verdict]
    others: dict[int, Watermark]


class DecisionReader:
    """Reads what an epoch needs of the records of ``opt.gates``.

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
        for place in np.flatnonzero(~scored).tolist():
            scores[place] = None
        columns = zip(
            *(as_of_ms.tolist(), eligible.tolist(), (cooling & (until_ms > as_of_ms)).tolist()),
            *(buffer.tolist(), scores),
            strict=True,
        )
        verdicts = list(starmap(Verdict, columns))
        in_echo_mode = np.array([word == b"echo" for word in words] or [False])[mode]
        for place in np.flatnonzero(plain & signalled & in_echo_mode).tolist():
            at_ms = int(first_seen_ms[place]) if seen[place] else None
            verdicts[place] = verdicts[place]._replace(
                echo=EchoGate(int(count_1h[place]), float(hazard[place]), at_ms),
                signal_bar_ms=int(signal_bar_ms[place]),
            )
        return Decisions(
            [names[place] for place in instrument.tolist()],
            verdicts,
            {place: self._watermark(messages[place]) for place in np.flatnonzero(~plain).tolist()},
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
) -> tuple[int, int]:
    """Compare ``risk.weights`` with what ``opt.gates`` gives.

    Parameters
    ----------
    codec, control
        The schemas, and ``ops.control`` read to its end.
    decisions
        ``opt.gates`` up to where the stage has come, as the client's messages.
    weights
        All of ``risk.weights``, likewise.
    done
        How far the stage has come in ``opt.gates``.
    progress
        Told of the topic and the records compared since the last time.

    Returns
    -------
    Records compared, and records of ``opt.gates`` read.

    Raises
    ------
    FastPathDeclined
        Something is not what it should be.
    """
    step, reader = WeightsStep(control, {}), DecisionReader(codec, control)
    found = chain.from_iterable(weights)
    compared = read = 0
    for batch in decisions:
        wanted = Expected([], [], [], [])
        for place, closed in _fold(step, reader.read(batch)):
            if closed:
                _want(wanted, codec, batch[place], closed)
        messages = list(islice(found, len(wanted.values)))
        if not are_records(messages, wanted):
            raise FastPathDeclined
        compared, read = compared + len(messages), read + len(batch)
        progress(WEIGHTS, len(messages))
    for message in found:
        # what was derived since the stage was asked how far it has come
        partition, offset = source_in(message)
        if partition != 0 or offset < done:
            raise FastPathDeclined
    return compared, read


def _fold(step: WeightsStep, batch: Decisions) -> Iterator[tuple[int, list[Weights]]]:
    names, verdicts, others = batch
    decided = step.decided
    for place, (name, verdict) in enumerate(zip(names, verdicts, strict=True)):
        if place in others:
            yield place, step.marked(others[place])
        else:
            yield place, decided(name, verdict)


def _want(wanted: Expected, codec: Codec, message: Any, closed: Sequence[Weights]) -> None:
    source = b"%b-0-%d" % (GATES.encode(), message.offset())
    for weights in closed:
        wanted.values.append(codec.encode(WEIGHTS, weights))
        of_config = ("config_id", weights.config_id.encode())
        wanted.headers.append([("source", source), ENGINE_HEADER, of_config])
        wanted.keys.append(PORTFOLIO_KEY)
        wanted.timestamps.append(weights.as_of_ms)
