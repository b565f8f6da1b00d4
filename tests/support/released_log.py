"""A log recorded from a release: its file, and writing it again under another prefix.

The file is an Avro container of all records. Its metadata ``deployment`` is a JSON object of what
a log has besides records: topics, committed offsets, transactional ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from confluent_kafka.admin import NewTopic

from streams.config.runtime import Runtime
from streams.kafka.topics_admin import Cluster
from tests.support.log_copy import CopiedRecord, commit_offsets, write_partition
from tests.support.migration import Raw

FOLDER: Final = Path(__file__).with_name("released")
LOG: Final = FOLDER / "log.avro"
CANDLES_FILE: Final = FOLDER / "candles.csv.gz"
"""A market; its first ``loaded`` candles are in the recorded log."""
DEPLOYMENT: Final = "deployment"
SCHEMA: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Record",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {"name": "timestamp_ms", "type": "long"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [
                            {"name": "key", "type": "string"},
                            {"name": "value", "type": ["null", "bytes"]},
                        ],
                    },
                },
            },
        ],
    }
)
BLOCK_BYTES: Final = 1 << 22

Records = dict[tuple[str, int], list[Raw]]


class RecordedTopic(NamedTuple):
    """A topic as the release has created it.

    Attributes
    ----------
    config
        Configuration that differs from the broker's defaults.
    ends
        High watermark of each partition.
    """

    config: dict[str, str]
    ends: list[int]


class ReleasedLog(NamedTuple):
    """Everything a deployment of a release has left on the broker, recorded without a prefix.

    Attributes
    ----------
    version
        What ``manifold --version`` of the release prints.
    settings
        Environment of the deployment, without addresses.
    loaded
        Number of candles of ``CANDLES_FILE`` in the log.
    groups
        Consumer group -> (topic, partition, committed offset) of each partition.
    transactional_ids
        All that the release has used.
    records
        (topic, partition) -> committed records.
    """

    version: str
    settings: dict[str, str]
    loaded: int
    topics: dict[str, RecordedTopic]
    groups: dict[str, list[tuple[str, int, int]]]
    transactional_ids: list[str]
    records: Records

    def write(self) -> None:
        """Write the file."""
        parts = self._asdict() | {
            "topics": {name: topic._asdict() for name, topic in self.topics.items()}
        }
        del parts["records"]
        with LOG.open("wb") as file:
            fastavro.writer(
                file,
                SCHEMA,
                self._rows(),
                codec="xz",
                sync_interval=BLOCK_BYTES,
                metadata={DEPLOYMENT: json.dumps(parts, sort_keys=True)},
            )

    def _rows(self) -> Iterable[dict[str, Any]]:
        for (topic, partition), records in sorted(self.records.items()):
            for raw in records:
                headers = [{"key": key, "value": value} for key, value in raw.headers]
                yield raw._asdict() | {
                    "topic": topic,
                    "partition": partition,
                    "headers": headers,
                }

    def restore(self, runtime: Runtime) -> None:
        """Write topics, records and committed offsets to a broker, under the runtime's prefix.

        Records keep their offsets, also where a commit marker lies in front of them.
        """
        admin = Cluster(runtime).client
        new = [
            NewTopic(runtime.topic(name), len(topic.ends), 1, config=topic.config)
            for name, topic in self.topics.items()
        ]
        for made in admin.create_topics(new).values():
            made.result(30)
        for (name, partition), records in self.records.items():
            write_partition(
                runtime,
                runtime.topic(name),
                partition,
                [(raw.offset, [CopiedRecord(*raw[1:])]) for raw in records],
                self.topics[name].ends[partition],
            )
        for group, offsets in self.groups.items():
            here = {(runtime.topic(topic), p): offset for topic, p, offset in offsets}
            commit_offsets(runtime, f"{runtime.topic_prefix}{group}", here)


def read_released_log() -> ReleasedLog:
    """Return the recorded log."""
    records: Records = {}
    with LOG.open("rb") as file:
        reader = fastavro.reader(file)
        parts = json.loads(reader.metadata[DEPLOYMENT])
        for row in reader:
            headers = tuple((header["key"], header["value"]) for header in row["headers"])
            raw = Raw(row["offset"], row["key"], row["value"], row["timestamp_ms"], headers)
            records.setdefault((row["topic"], row["partition"]), []).append(raw)
    parts["topics"] = {name: RecordedTopic(**topic) for name, topic in parts["topics"].items()}
    parts["groups"] = {
        group: [tuple(place) for place in places] for group, places in parts["groups"].items()
    }
    return ReleasedLog(**parts, records=records)
