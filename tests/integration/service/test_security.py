"""Logins and TLS: the whole chain behind them, and what is said when they are wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import redis

from streams.records.topics import WEIGHTS
from streams.stack.kafka import QUICK_JVM, KafkaBroker, SaslSsl
from streams.stack.valkey import ValkeyServer
from tests.support.candle_files import market, write_csv
from tests.support.certificates import certificate
from tests.support.deployment import Deployment
from tests.support.tls_door import TlsDoor

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
USER, PASSWORD, GUESS = "trader", "s3cret-of-kafka", "a-guess-at-it"
VALKEY_PASSWORD = "s3cret of v@lkey"
COMMANDS = ("topics check", "status", "tail md.candles -n 1", "verify", "worker", "mirror")


class Guarded(NamedTuple):
    """A broker behind a login and TLS."""

    bootstrap: str
    mechanism: str
    ca: Path

    def settings(self, prefix: str, **more: str) -> dict[str, str]:
        """Return what a client needs."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": self.mechanism,
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_TLS_CA": str(self.ca),
            "TOPIC_PREFIX": prefix,
            "TOPIC_PARTITIONS": "2",
            **more,
        }


@pytest.fixture(scope="module", params=["PLAIN", "SCRAM-SHA-512"])
def guarded(
    kafka: KafkaBroker, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    cert, key = certificate(directory)
    keystore = directory / "broker.pem"
    keystore.write_bytes(key.read_bytes() + cert.read_bytes())
    (directory / "ca.pem").write_bytes(cert.read_bytes())
    security = SaslSsl(keystore, request.param, {USER: PASSWORD})
    broker = KafkaBroker(directory / "kafka", security=security, jvm=QUICK_JVM)
    broker.start()
    yield Guarded(broker.bootstrap, request.param, directory / "ca.pem")
    broker.stop()


@pytest.fixture
def guarded_valkey(
    new_valkey: Callable[[], ValkeyServer], tmp_path: Path
) -> Iterator[tuple[str, Path]]:
    """A Valkey with a password, behind TLS: (URL, CA file)."""
    server = new_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", VALKEY_PASSWORD)
    cert, key = certificate(tmp_path)
    with TlsDoor(server.port, cert, key) as door:
        yield f"rediss://:{quote(VALKEY_PASSWORD)}@127.0.0.1:{door.port}/0", cert


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one sentence of a command that is not let in."""
    assert done.returncode == 2, (done.args, done.returncode, done.stderr)
    said = done.stderr + done.stdout
    assert not any(secret in said for secret in (PASSWORD, GUESS, VALKEY_PASSWORD)), done.args
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("manifold: "), line
    return line


def test_the_whole_chain_runs_behind_logins_and_tls(
    guarded: Guarded, guarded_valkey: tuple[str, Path], topic_prefix: str, tmp_path: Path
) -> None:
    url, valkey_ca = guarded_valkey
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    settings = guarded.settings(topic_prefix, VALKEY_URL=url, VALKEY_TLS_CA=str(valkey_ca))
    del settings["KAFKA_SASL_PASSWORD"]
    deployment = Deployment(tmp_path, **settings, KAFKA_SASL_PASSWORD_FILE=str(secret))
    every = market(PAIRS, 150)
    path = write_csv(tmp_path / "candles.csv", every)
    try:
        worker = deployment.start_worker()
        mirror = deployment.start("mirror", "mirror")
        assert deployment.run("load", path).returncode == 0
        deployment.settle()
        assert worker.restarts == mirror.restarts == 0
        deployment.require_exact()
        deployment.require_verified()
        last = deployment.events(WEIGHTS)[-1]
        with redis.Redis.from_url(url, ssl_ca_certs=str(valkey_ca)) as client:
            shown = json.loads(client.get("risk:allocation_weights"))
            assert shown == {entry.instrument: entry.weight for entry in last.entries}
            for pair in PAIRS:
                wanted = sum(candle.instrument == pair for candle in every)
                assert client.zcard(f"md:candles:{pair}:M1") == wanted > 100
        checked = deployment.run("topics", "check", "--json")
        assert checked.returncode == 0, checked.stdout
        assert len(deployment.run("tail", "sep.signals", "-n", "3").stdout.splitlines()) == 3
        assert deployment.run("status").returncode == 0
    finally:
        deployment.stop()
    logs = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert PASSWORD not in logs
    assert VALKEY_PASSWORD not in logs


def every_command(deployment: Deployment, **settings: str) -> list[str]:
    """Return what each command says that is not let in; they wait side by side."""
    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        tried = [pool.submit(deployment.run, *c.split(), **settings) for c in COMMANDS]
    return [refused(done.result()) for done in tried]


def test_a_wrong_password_is_one_sentence_and_never_shown(
    guarded: Guarded, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(tmp_path, **guarded.settings(topic_prefix))
    for line in every_command(deployment, KAFKA_SASL_PASSWORD=GUESS):
        assert guarded.bootstrap in line
        assert "KAFKA_SASL_" in line


def test_a_broker_with_a_certificate_nobody_signed_is_refused(
    guarded: Guarded, topic_prefix: str, tmp_path: Path
) -> None:
    deployment = Deployment(tmp_path, **guarded.settings(topic_prefix))
    other_ca, _ = certificate(tmp_path)
    for line in every_command(deployment, KAFKA_TLS_CA=str(other_ca)):
        assert "KAFKA_TLS_" in line


@pytest.mark.parametrize("arguments", [("mirror",), ("mirror", "--rebuild")])
@pytest.mark.parametrize("wrong", ["password", "certificate"])
def test_a_valkey_that_does_not_let_the_mirror_in_is_one_sentence(
    kafka: KafkaBroker,
    guarded_valkey: tuple[str, Path],
    topic_prefix: str,
    tmp_path: Path,
    wrong: str,
    arguments: tuple[str, ...],
) -> None:
    url, ca = guarded_valkey
    if wrong == "password":
        url = url.replace(quote(VALKEY_PASSWORD), GUESS)
    else:
        (tmp_path / "other").mkdir()
        ca, _ = certificate(tmp_path / "other")
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="1",
        VALKEY_URL=url,
        VALKEY_TLS_CA=str(ca),
    )
    path = write_csv(tmp_path / "candles.csv", market(("EUR_USD",), 5))
    assert deployment.run("load", path).returncode == 0
    line = refused(deployment.run(*arguments))
    assert ("VALKEY_URL" if wrong == "password" else "VALKEY_TLS_CA") in line
