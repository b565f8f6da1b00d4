"""Settings of the deployment: brokers, topics, ports. None of them changes a result."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from streams.config.environment import FromEnvironment, setting

DEFAULT_PAIRS = (
    "EUR_USD",
    "USD_JPY",
    "GBP_USD",
    "EUR_JPY",
    "USD_CAD",
    "NZD_USD",
    "AUD_USD",
    "USD_CHF",
)


@dataclass(frozen=True, slots=True)
class Runtime(FromEnvironment):
    """Connections, names, ports and limits; no derived record depends on them."""

    hotband_pairs: tuple[str, ...] = setting(
        DEFAULT_PAIRS, "instruments a feed covers, comma separated", instruments=True
    )
    kafka_bootstrap_servers: str = setting(
        "127.0.0.1:9092", "broker addresses", names=("KAFKA_BROKERS",)
    )
    kafka_security_protocol: str = setting(
        "PLAINTEXT",
        "transport to the brokers",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    kafka_sasl_mechanism: str = setting(
        "SCRAM-SHA-256", "SASL mechanism", choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
    )
    kafka_sasl_username: str = setting("", "SASL user name")
    kafka_sasl_password: str = setting(
        "", "SASL password (or KAFKA_SASL_PASSWORD_FILE)", secret=True
    )
    kafka_tls_ca: str = setting("", "file with the CA certificate of the brokers")
    kafka_tls_cert: str = setting("", "file with the client certificate")
    kafka_tls_key: str = setting("", "file with the client key")
    schema_registry_url: str = setting(
        "", "Confluent-compatible registry; unset = ids of schemas/registry.lock.json"
    )
    schema_registry_username: str = setting("", "registry user name")
    schema_registry_password: str = setting(
        "", "registry password (or SCHEMA_REGISTRY_PASSWORD_FILE)", secret=True
    )
    schema_registry_tls_ca: str = setting("", "file with the CA certificate of the registry")
    valkey_url: str = setting(
        "redis://127.0.0.1:6379/0", "Valkey; rediss:// for TLS, password inside", secret=True
    )
    valkey_tls_ca: str = setting("", "file with the CA certificate of Valkey")
    valkey_candle_retention: int = setting(
        20_000,
        "candles kept per instrument in Valkey, 350 bytes each; 0 = all",
        unit="candles",
        bounds=(0, 10_000_000),
    )
    valkey_signal_retention: int = setting(
        20_000,
        "signals kept per instrument in Valkey, 940 bytes each; 0 = all",
        unit="signals",
        bounds=(0, 10_000_000),
    )
    topic_prefix: str = setting("", "prefix of every topic, group and transactional id")
    topic_partitions: int = setting(12, "partitions of the keyed topics", bounds=(1, 1_000))
    topic_replication_factor: int = setting(1, "replication factor of every topic", bounds=(1, 15))
    app_id: str = setting(
        "manifold", "application id: consumer group, changelogs, transactional ids"
    )
    worker_id: str = setting(
        socket.gethostname, "stable name of this worker (static group membership)"
    )
    session_timeout_sec: float = setting(
        6.0,
        "time without heartbeat after which a worker loses its partitions",
        unit="s",
        bounds=(1, 300),
    )
    transaction_timeout_sec: float = setting(
        10.0, "timeout of a transaction", unit="s", bounds=(1, 300)
    )
    metrics_host: str = setting("127.0.0.1", "address of /metrics and /healthz")
    metrics_token: str = setting(
        "",
        "token of the status ports of worker, feed, mirror, executor and kill keep on an address "
        "other than loopback (or METRICS_TOKEN_FILE; API_TOKEN is accepted too); without one only "
        "/healthz answers there",
        secret=True,
    )
    metrics_port: int = setting(9108, "port of /metrics and /healthz; 0 = off", bounds=(0, 65_535))
    mirror_metrics_port: int = setting(
        0,
        "port of the mirror's /metrics and /healthz, on METRICS_HOST; 0 = off (several mirrors may "
        "run on one machine)",
        bounds=(0, 65_535),
    )
    log_level: str = setting(
        "INFO", "minimum level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR")
    )

    def topic(self, name: str) -> str:
        """Return the full name of a topic of ``streams.records.topics`` in this deployment."""
        return f"{self.topic_prefix}{name}"

    @property
    def application(self) -> str:
        """Application id with the prefix: consumer group and first part of transactional ids."""
        return f"{self.topic_prefix}{self.app_id}"

    @property
    def mirror_group(self) -> str:
        """Consumer group of the mirror."""
        return f"{self.application}-mirror"

    def changelog(self, stage: str) -> str:
        """Return the full name of the changelog topic of a stage's table."""
        return f"{self.application}-{stage}-changelog"
