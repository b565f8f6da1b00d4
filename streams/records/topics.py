"""The table of topics, used for creation, checks, documentation and tests.

Record timestamps are candle times and Kafka deletes by record timestamp, so every topic has
unlimited retention (``retention.ms=-1``) and segments do not roll by time (``segment.ms`` is a
year). ``opt.gates`` has one partition: the allocator is global, and one partition fixes the order
of arrival.
"""

from __future__ import annotations

from typing import NamedTuple

YEAR_MS = 365 * 24 * 3600 * 1000
COMPACTED_SEGMENT_BYTES = 16 << 20


class Topic(NamedTuple):
    """One topic.

    Attributes
    ----------
    name
        Name without the deployment's prefix.
    partitions
        Fixed partition count, or 0 for ``TOPIC_PARTITIONS``.
    records
        Record types, by their names in ``streams.records.events`` and ``schemas/``.
    derived_by
        The stage or program that writes it.
    content
        One line of documentation.
    cleanup
        ``delete`` or ``compact``.
    """

    name: str
    partitions: int
    records: tuple[str, ...]
    derived_by: str
    content: str
    cleanup: str = "delete"

    def partition_count(self, deployment: int) -> int:
        """Return the partition count, given the deployment's count for keyed topics."""
        return self.partitions or deployment

    @property
    def config(self) -> dict[str, str]:
        """Topic configuration used for creation and checks."""
        if self.cleanup == "compact":
            return {
                "cleanup.policy": "compact",
                "max.message.bytes": "1048588",
                # the active segment is never compacted, and a restore reads all of it
                "segment.bytes": str(COMPACTED_SEGMENT_BYTES),
            }
        return {
            "cleanup.policy": "delete",
            "retention.ms": "-1",
            "retention.bytes": "-1",
            "segment.ms": str(YEAR_MS),
            "max.message.bytes": "1048588",
        }


CANDLES = "md.candles"
SIGNALS = "sep.signals"
MANIFOLDS = "sep.manifolds"
TRADES = "bt.trades"
SUMMARIES = "bt.summaries"
GATES = "opt.gates"
WEIGHTS = "risk.weights"
CONTROL = "ops.control"
ORDERS = "exec.orders"
FILLS = "exec.fills"
DEAD_LETTERS = "dead.letters"

TOPICS: dict[str, Topic] = {
    t.name: t
    for t in (
        Topic(
            CANDLES,
            0,
            ("Candle", "Watermark"),
            "feeds",
            "one complete candle: bid, ask, mid, tick volume",
        ),
        Topic(
            SIGNALS,
            0,
            ("Signal", "Watermark"),
            "signals",
            "QFH metrics of the window ending at the bar",
        ),
        Topic(MANIFOLDS, 0, ("Manifold", "Watermark"), "signals", "manifold snapshot at the bar"),
        Topic(TRADES, 0, ("SimulatedTrade",), "gates", "simulated trades, when they close"),
        Topic(
            SUMMARIES,
            0,
            ("Summary",),
            "gates",
            "strict rolling summary and floors, one per evaluation",
        ),
        Topic(
            GATES,
            1,
            ("GateDecision", "Watermark"),
            "gates",
            "decision per instrument and bar, with reasons",
        ),
        Topic(
            WEIGHTS, 1, ("Weights",), "weights", "Top-K allocation weights, one record per epoch"
        ),
        Topic(
            CONTROL,
            1,
            ("Control",),
            "operators and feeds",
            "commands of operators, parameters, universe, configuration, audit records",
        ),
        Topic(
            ORDERS,
            0,
            ("OrderIntent",),
            "executor",
            "order intents, written before the order is sent to the broker",
        ),
        Topic(
            FILLS,
            0,
            ("BrokerReport", "AccountState"),
            "executor",
            "broker reports, and reference values of the account limits",
        ),
        Topic(
            DEAD_LETTERS,
            1,
            ("DeadLetter",),
            "any stage",
            "rejected input bytes, reason, coordinates",
        ),
    )
}

MIRRORED = (
    CANDLES, SIGNALS, MANIFOLDS, SUMMARIES, GATES, WEIGHTS, CONTROL, ORDERS, FILLS,
)  # fmt: skip
"""Topics whose records the mirror writes to Valkey."""

STAGE_SOURCES: dict[str, str] = {"signals": CANDLES, "gates": MANIFOLDS, "weights": GATES}
"""Stage name -> the topic it reads. Its table and its changelog have that topic's partitions."""


def changelog_topic(stage: str) -> Topic:
    """Return the changelog topic of a stage's table, named without application id and prefix.

    Its full name is ``<app id>-<stage>-changelog`` (Faust's rule for a table named like the stage).
    """
    return Topic(
        f"{stage}-changelog",
        TOPICS[STAGE_SOURCES[stage]].partitions,
        (),
        stage,
        f"state of the {stage} stage, restored from here when a worker starts",
        cleanup="compact",
    )


def subject(topic: str, record: str, prefix: str = "") -> str:
    """Return the schema registry subject of a record type in a topic.

    ``<topic>-value`` for the topic's first record type and ``<topic>-<record>`` for any other (the
    watermark), with the deployment's prefix in front of the topic.
    """
    if TOPICS[topic].records[0] == record:
        return f"{prefix}{topic}-value"
    return f"{prefix}{topic}-{record}"
