"""A right that the mirror's user of Valkey lacks: one sentence names it, and nothing is skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.config.settings import Config
from streams.errors import Fatal
from streams.mirror.follow import Follower
from streams.mirror.keys import POSITIONS
from streams.mirror.rebuild import rebuild
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
        self.admin: Any = redis.Redis.from_url(self.server.url, decode_responses=True)
        self.url = self.server.url.replace("//", f"//{USER}:{PASSWORD}@")
        self.deployment = Deployment(
            directory,
            KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
            TOPIC_PREFIX="rights.",
            TOPIC_PARTITIONS="2",
            HOTBAND_PAIRS=",".join(PAIRS),
            VALKEY_URL=self.url,
        )
        self.config = Config.from_env(self.deployment.environment)

    def permit(self, *rules: str) -> None:
        """Give the user these rights and no others."""
        said = self.admin.execute_command(
            "ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules
        )
        assert said == "OK"

    def settle(self) -> None:
        """Wait for the mirror; its user may not read what the comparison needs."""
        self.deployment.environment["VALKEY_URL"] = self.server.url
        self.deployment.settle()
        self.deployment.environment["VALKEY_URL"] = self.url

    def mirror(self) -> str:
        """Run a mirror in this process until it refuses to run; return what it says."""
        follower = Follower(self.deployment.runtime, self.config, self.deployment.codec)
        with pytest.raises(Fatal) as refused:
            asyncio.run(follower.run())
        return str(refused.value)

    def rebuild(self) -> str:
        """Run a rebuild that refuses; return what it says."""
        with pytest.raises(Fatal) as refused:
            asyncio.run(rebuild(self.deployment.runtime, self.config, self.deployment.codec))
        return str(refused.value)

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
    for said in (place.mirror(), place.rebuild()):
        assert said.startswith(f"the user '{USER}' of VALKEY_URL ") and problem in said, said
        assert said.endswith(place.said(grant)), said
    assert place.admin.get("opt:rolling:eligible:EUR_USD") == "kept", "a rebuild removed keys first"
    place.admin.flushall()


def test_a_key_without_the_right_to_write_is_named(place: Place) -> None:
    rule = "~md:candles:*"
    place.permit(*(each for each in RULES if each != rule), "%R~md:candles:*")
    assert "may not read and write the keys md:candles:*" in place.mirror()


def test_all_missing_rights_are_named_at_once_and_by_the_doctor(place: Place) -> None:
    gone = ("+hset", "+pexpireat", "~sep:signal:*", "&ws:manifold")
    place.permit(*(each for each in RULES if each not in gone))
    assert place.mirror().endswith(place.said(" ".join(gone)))
    findings = asyncio.run(check_valkey(place.deployment.runtime, place.config))
    (found,) = [each for each in findings if each.name == "valkey rights"]
    assert found.state == "fail" and found.action == place.said(" ".join(gone))
    place.permit(*RULES)
    findings = asyncio.run(check_valkey(place.deployment.runtime, place.config))
    assert all(each.ok for each in findings), findings


def test_a_user_who_may_queue_nothing_is_told_by_the_server(place: Place) -> None:
    place.permit(*(each for each in RULES if each not in ("+multi", "+zadd")))
    said = place.mirror()
    assert f"the user '{USER}' of VALKEY_URL a right" in said and "'zadd'" in said, said
    place.admin.flushall()


def test_rights_withdrawn_while_it_runs_skip_nothing(place: Place) -> None:
    """A user with exactly the documented rights mirrors everything; less, and the mirror ends."""
    place.admin.flushall()
    place.permit(*RULES)
    deployment = place.deployment
    mirror = deployment.start("mirror", "mirror")
    place.settle()
    held = dump(place.server.url)
    assert any(key.startswith(b"md:candles:") for key in held)

    place.permit(*(each for each in RULES if each not in ("+zadd", "~sep:signal_index:*")))
    place.admin.flushall()
    until(lambda: mirror.child.returncode is not None, deployment.last_output, 0.2)
    assert mirror.child.returncode == 2 and mirror.failed
    assert mirror.child.last_output(1).endswith(place.said("+zadd ~sep:signal_index:*"))

    place.permit(*RULES)
    mirror.start()
    place.settle()
    assert dump(place.server.url) == held
    asyncio.run(rebuild(deployment.runtime, place.config, deployment.codec))
    assert dump(place.server.url) == held
