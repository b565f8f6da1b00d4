"""Read the portfolio weights with any Kafka client: nothing of this package is imported.

    python examples/read_weights.py

Values are Avro in the Confluent wire format: byte 0, the schema id in four bytes, the body. The
schema comes from the registry by its id. Only committed records count: ``read_committed``.
"""

import io
import json
import os
import struct
import urllib.request
from functools import cache

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

BROKERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:19092")
REGISTRY = os.environ.get("SCHEMA_REGISTRY_URL", "http://127.0.0.1:18081")
TOPIC = os.environ.get("TOPIC_PREFIX", "") + "risk.weights"


@cache
def schema(schema_id):
    with urllib.request.urlopen(f"{REGISTRY}/schemas/ids/{schema_id}", timeout=10) as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


def decode(value):
    magic, schema_id = struct.unpack(">bI", value[:5])
    assert magic == 0, "not the Confluent wire format"
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), schema(schema_id))


consumer = Consumer(
    {
        "bootstrap.servers": BROKERS,
        "group.id": "example-read-weights",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
    }
)
consumer.assign([TopicPartition(TOPIC, 0, OFFSET_BEGINNING)])  # it has one partition
while True:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        raise SystemExit(message.error().str())
    record = decode(message.value())
    weights = {entry["instrument"]: round(entry["weight"], 3) for entry in record["entries"]}
    print(record["epoch_ms"].isoformat(), record["action"], weights, flush=True)
