"""A right that the mirror's user of Valkey lacks: one sentence names it, and nothing is skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streams.config.runtime import Runtime
from streams.config.settings import Config
from streams.mirror.keys import POSITIONS
from streams.mirror.rights import acl_rules
from streams.mirror.server_check import check_valkey
from streams.stack.kafka import KafkaBroker
from streams.stack.valkey import ValkeyServer
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment, dump
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "GBP_USD")
USER, PASSWORD = "mirror-of-tests", "a-password-of-the-tests"
RULES = acl_rules().split()


class Place:
    """A deployment on a Valkey with users; ``admin`` is the client of their administrator."""

    def __init__(self, directory: Path, kafka: KafkaBroker) -> None:
        self.server = ValkeyServer(directory / "valkey")
        self.server.start()
        self.admin = redis.Redis.from_url(self.server.url, decode_responses=True)
        self.url = self.server.url.replace("//", f"//{USER}:{PASSWORD}@")
        self.deployment = Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
            TOPIC_PREFIX="rights.",
            TOPIC_PARTITIONS="2",
            HOTBAND_PAIRS=",".join(PAIRS),
            VALKEY_URL=self.url,
        )

    def permit(self, *rules: str) -> None:
        """Give the user these rights and no others."""
        said = self.admin.execute_command(
            "ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules
        )
        assert said == "OK"

    def said(self, grants: str) -> str:
        """Return the sentence that asks for these grants."""
        return f"grant it in Valkey: ACL SETUSER {USER} {grants}"


@pytest.fixture(scope="module")
def place(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A log of 200 bars, everything derived."""
    made = Place(tmp_path_factory.mktemp("rights"), kafka)
    path = write_csv(made.deployment.directory / "candles.csv", market(PAIRS, 200))
    try:
        made.deployment.start_worker()
        assert made.deployment.run("load", path).returncode == 0
        made.deployment.settle()
        yield made
    finally:
        made.deployment.stop()
        made.admin.close()
        made.server.stop()


WITHHELD = {
    "a command of a script": ("+zadd", "may not run ZADD", "+zadd"),
    "a command beside the scripts": ("+script|load", "may not run SCRIPT|LOAD", "+script|load"),
    "a family of keys": ("~ws:last:manifold:*", "keys ws:last:manifold:*", "~ws:last:manifold:*"),
    "the positions": (f"~{POSITIONS}", f"the keys {POSITIONS}", f"~{POSITIONS}"),
    "a channel": ("&ws:manifold", "may not publish to the channels ws:manifold", "&ws:manifold"),
}


@pytest.mark.parametrize("withheld", WITHHELD)
def test_a_missing_right_ends_mirror_and_rebuild_with_its_name(place: Place, withheld: str) -> None:
    rule, problem, grant = WITHHELD[withheld]
    place.permit(*(each for each in RULES if each != rule))
    place.admin.set("opt:rolling:eligible:EUR_USD", "kept")
    for arguments in (("mirror",), ("mirror", "--rebuild")):
        done = place.deployment.run(*arguments)
        assert done.returncode == 2, done.stderr
        last = done.stderr.splitlines()[-1]
        assert f"the user '{USER}' of VALKEY_URL" in last and problem in last
        assert last.endswith(place.said(grant)), last
    assert place.admin.get("opt:rolling:eligible:EUR_USD") == "kept", "a rebuild removed keys first"
    place.admin.flushall()


def test_a_key_without_the_right_to_write_is_named(place: Place) -> None:
    rule = "~md:candles:*"
    place.permit(*(each for each in RULES if each != rule), "%R~md:candles:*")
    done = place.deployment.run("mirror")
    assert done.returncode == 2
    assert "may not read and write the keys md:candles:*" in done.stderr


def test_all_missing_rights_are_named_at_once_and_by_the_doctor(place: Place) -> None:
    gone = ("+hset", "+pexpireat", "~sep:signal:*", "&ws:manifold")
    place.permit(*(each for each in RULES if each not in gone))
    done = place.deployment.run("mirror")
    assert done.stderr.rstrip().endswith(place.said(" ".join(gone)))
    runtime, config = place.deployment.runtime, Config.from_env(place.deployment.environment)
    findings = asyncio.run(check_valkey(runtime, config))
    (found,) = [each for each in findings if each.name == "valkey rights"]
    assert found.status == "fail" and found.action == place.said(" ".join(gone))
    place.permit(*RULES)
    findings = asyncio.run(check_valkey(runtime, config))
    assert not [each for each in findings if each.name == "valkey rights"]


def test_a_user_without_a_login_is_told_so(place: Place) -> None:
    wrong = Runtime.from_env(place.deployment.environment | {"VALKEY_URL": place.url + "0"})
    assert wrong.valkey_url
    done = place.deployment.run("mirror", VALKEY_URL=place.url.replace(PASSWORD, "wrong"))
    assert done.returncode == 2
    assert "Valkey refuses the login of VALKEY_URL" in done.stderr and "wrong" not in done.stderr


def test_rights_withdrawn_while_it_runs_skip_nothing(place: Place) -> None:
    """A user with exactly the documented rights mirrors everything; less, and the mirror ends."""
    place.admin.flushall()
    place.permit(*RULES)
    deployment = place.deployment
    mirror = deployment.start("mirror", "mirror")
    deployment.settle()
    held = dump(place.server.url)
    assert any(key.startswith(b"md:candles:") for key in held)

    place.permit(*(each for each in RULES if each not in ("+zadd", "~sep:signal_index:*")))
    place.admin.flushall()
    until(lambda: mirror.child.returncode is not None, deployment.last_output, 0.2)
    assert mirror.child.returncode == 2 and mirror.failed
    assert mirror.child.last_output(1).endswith(place.said("+zadd ~sep:signal_index:*"))

    place.permit(*RULES)
    mirror.start()
    deployment.settle()
    assert dump(place.server.url) == held
    done = deployment.run("mirror", "--rebuild")
    assert done.returncode == 0, done.stderr
    assert dump(place.server.url) == held
