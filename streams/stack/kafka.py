"""A real Apache Kafka broker in KRaft mode, one node, on this machine."""

from __future__ import annotations

import re
import subprocess
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4
from zlib import crc32

from streams.errors import Fatal
from streams.kafka.topics_admin import answers
from streams.process.child import Child, free_port, listens, require_port, require_space
from streams.process.disk import write_file
from streams.stack import maven

JVM = ("-Xmx512m", "-XX:+UseSerialGC")
QUICK_JVM = (*JVM, "-XX:TieredStopAtLevel=1")
"""JVM options for tests: two thirds of the CPU time in the first minute, slower code later."""
START_SECONDS = 180.0
"""Seconds; takes two on an idle machine, half a minute under tenfold load."""


def pom_file() -> Path:
    """Return the Maven project of the broker, in the package or in the source tree."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "_deploy", package.parent / "deploy"):
        if (place / "kafka" / "pom.xml").is_file():
            return place / "kafka" / "pom.xml"
    raise Fatal("deploy/kafka/pom.xml is missing from this installation")


def kafka_version() -> str:
    """Return the version of Apache Kafka."""
    found = re.search(r"<kafka.version>([^<]+)<", pom_file().read_text(encoding="utf-8"))
    if found is None:
        raise Fatal(f"{pom_file()} names no kafka.version")
    return found[1]


def _new_cluster_id() -> str:
    # Kafka's own form; "m" in front, for one that began with "-" would be an option
    return "m" + urlsafe_b64encode(uuid4().bytes).decode()[1:].rstrip("=")


@dataclass(frozen=True)
class SaslSsl:
    """SASL_SSL for the clients' listener.

    Attributes
    ----------
    keystore
        PEM file with the broker's private key and certificate chain.
    mechanism
        ``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512``.
    users
        User name -> password.
    """

    keystore: Path
    mechanism: str
    users: dict[str, str]


class KafkaBroker:
    """One broker and controller in one process.

    Parameters
    ----------
    directory
        Data and logs, kept over restarts.
    port
        Port of the clients' listener; a free one by default. Kept over restarts.
    security
        None for plain text.
    jvm
        JVM options.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        security: SaslSsl | None = None,
        jvm: tuple[str, ...] = JVM,
    ) -> None:
        self.directory = directory.absolute()
        self.port = port if port is not None else free_port()
        self.controller_port = free_port()
        self._security, self._jvm = security, jvm
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def child(self) -> Child:
        """The process."""
        if self._child is None:
            raise Fatal("the Kafka broker was not started")
        return self._child

    def start(self) -> None:
        """Start the broker and wait until it answers.

        Raises
        ------
        Fatal
            No Java or Maven, a port in use, a full disk, or the broker does not start.
        """
        program = maven.java()
        # a changed pom file with the same Kafka version needs another directory
        mark = crc32(pom_file().read_bytes())
        jars = maven.fetch_jars(pom_file(), f"kafka-{kafka_version()}-{mark:08x}")
        require_space(self.directory, 256)
        require_port(self.port, "the Kafka broker")
        require_port(self.controller_port, "the Kafka controller")
        settings = self.directory / "server.properties"
        write_file(settings, "\n".join(self._properties()) + "\n", mode=0o600)
        self._format(program, jars, settings)
        log_config = f"-Dlog4j2.configurationFile={pom_file().with_name('log4j2.properties')}"
        self._child = Child(
            "the Kafka broker",
            [program, *self._jvm, log_config, "-cp", f"{jars}/*", "kafka.Kafka", str(settings)],
            self.directory / "kafka.log",
            cwd=self.directory,
        )
        self._child.start()
        self._child.wait_until(self._answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the broker cleanly; its data stays."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """Kill the broker with SIGKILL."""
        self.child.kill()

    def _answers(self) -> bool:
        # the port is open long before the first request is served
        if not listens(self.port):
            return False
        if self._security is not None:
            return True
        return answers(self.bootstrap)

    def _format(self, program: str, jars: Path, settings: Path) -> None:
        if (self.directory / "data" / "meta.properties").is_file():
            return
        command = [program, *QUICK_JVM, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
        command += ["-t", _new_cluster_id(), "-c", str(settings), "--ignore-formatted"]
        if self._security and self._security.mechanism.startswith("SCRAM"):
            for user, password in self._security.users.items():
                entry = f"{self._security.mechanism}=[name={user},password={password}]"
                command += ["--add-scram", entry]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.directory
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Fatal(f"cannot format the Kafka data directory {self.directory}: {said[-1:]}")

    def _properties(self) -> list[str]:
        protocol = "SASL_SSL" if self._security else "PLAINTEXT"
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self.controller_port}",
            f"listeners=CLIENTS://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            f"advertised.listeners=CLIENTS://127.0.0.1:{self.port}",
            f"listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=CLIENTS",
            "controller.listener.names=CONTROLLER",
            f"log.dirs={self.directory / 'data'}",
            "auto.create.topics.enable=false",
            "default.replication.factor=1",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            # a killed broker can register again after this time
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=500",
            # the default of 500 ms is half of the CPU time of an idle broker
            "metadata.max.idle.interval.ms=5000",
            "log.cleaner.dedupe.buffer.size=16777216",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
        ]
        return lines + self._security_properties()

    def _security_properties(self) -> list[str]:
        if self._security is None:
            return []
        mechanism, users = self._security.mechanism, self._security.users
        name, password = next(iter(users.items()))
        module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
        login = f"org.apache.kafka.common.security.{module} required"
        login += f' username="{name}" password="{password}"'
        if mechanism == "PLAIN":
            login += "".join(f' user_{user}="{secret}"' for user, secret in users.items())
        return [
            f"sasl.enabled.mechanisms={mechanism}",
            f"sasl.mechanism.inter.broker.protocol={mechanism}",
            f"listener.name.clients.{mechanism.lower()}.sasl.jaas.config={login};",
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self._security.keystore}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self._security.keystore.with_name('ca.pem')}",
        ]
