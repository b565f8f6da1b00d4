"""Settings of a topic at the broker."""

from __future__ import annotations

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams.config.runtime import Runtime
from streams.kafka.client import confluent_config
from tests.support.waiting import PATIENCE_S


def set_topic(runtime: Runtime, topic: str, name: str, value: str) -> None:
    """Set one setting of a topic; returns when the broker has it."""
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, runtime.topic(topic), incremental_configs=[entry])
    admin = AdminClient(confluent_config(runtime))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(PATIENCE_S)
