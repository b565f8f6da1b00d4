"""Broker settings in the format of each client library."""

from __future__ import annotations

import ssl
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from streams.config.runtime import Runtime
from streams.errors import Fatal

SILENT: Final = {"logger": SimpleNamespace(log=partial(partial, len))}
"""Switches off a client's own error logging (up to 20 lines/s); the caller reports errors.

``partial`` accepts any arguments and runs no Python bytecode. In a Python function, a pending
KeyboardInterrupt would be raised inside the client's callback and appear as a SystemError.
"""
READING_ON: Final = {"fetch.queue.backoff.ms": 10}
"""For consumers that read a topic to its end: by default the client pauses fetching for a second
when its queue is full, which delays a fast reader."""


def confluent_config(runtime: Runtime) -> dict[str, Any]:
    """Return the connection part of a confluent-kafka configuration.

    Raises
    ------
    Fatal
        A file of KAFKA_TLS_* cannot be read.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": runtime.kafka_bootstrap_servers,
        "security.protocol": runtime.kafka_security_protocol,
        "log_level": 3,
        "reconnect.backoff.ms": 200,
    }
    if runtime.kafka_security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = runtime.kafka_sasl_mechanism
        config["sasl.username"] = runtime.kafka_sasl_username
        config["sasl.password"] = runtime.kafka_sasl_password
    if runtime.kafka_security_protocol.endswith("SSL"):
        kafka_tls(runtime)
        for name, value in (
            ("ssl.ca.location", runtime.kafka_tls_ca),
            ("ssl.certificate.location", runtime.kafka_tls_cert),
            ("ssl.key.location", runtime.kafka_tls_key),
        ):
            if value:
                config[name] = value
    return config


def producer_config(runtime: Runtime) -> dict[str, Any]:
    """Return the configuration of an idempotent confluent-kafka producer.

    The partitioner is murmur2, the default of most other clients, so that a key has the same
    partition for every writer.
    """
    return confluent_config(runtime) | {
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "lz4",
    }


def tls_context(setting: str, ca: str, cert: str = "", key: str = "") -> ssl.SSLContext:
    """Return a TLS context that trusts ``ca`` (the system's CAs when empty).

    Raises
    ------
    Fatal
        A file cannot be read; the message names ``setting``.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None)
    except (OSError, ssl.SSLError) as error:
        raise Fatal(f"{setting}: cannot load the TLS files ({ca or cert}): {error}") from error
    return context


def aiokafka_config(runtime: Runtime) -> dict[str, Any]:
    """Return the connection part of an aiokafka client's arguments."""
    config: dict[str, Any] = {
        "bootstrap_servers": runtime.kafka_bootstrap_servers,
        "security_protocol": runtime.kafka_security_protocol,
    }
    if runtime.kafka_security_protocol.startswith("SASL"):
        config["sasl_mechanism"] = runtime.kafka_sasl_mechanism
        config["sasl_plain_username"] = runtime.kafka_sasl_username
        config["sasl_plain_password"] = runtime.kafka_sasl_password
    if runtime.kafka_security_protocol.endswith("SSL"):
        config["ssl_context"] = kafka_tls(runtime)
    return config


def kafka_tls(runtime: Runtime) -> ssl.SSLContext:
    return tls_context(
        "KAFKA_TLS_CA", runtime.kafka_tls_ca, runtime.kafka_tls_cert, runtime.kafka_tls_key
    )
