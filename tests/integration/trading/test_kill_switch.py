"""The kill switch on a real Kafka and a real Valkey: everybody who touches it, one step at a time.

The keeper's rounds are done by hand, so that other hands can come between any two of its steps.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from confluent_kafka import Producer

from streams.cli import main
from streams.config.kill_switch import KillSwitchSettings
from streams.config.settings import Config
from streams.kafka.control_topic import append_control
from streams.mirror.rebuild import rebuild
from streams.process.child import Child, free_port
from streams.records.events import Control
from streams.records.kill_switch import KillSwitchCommand
from streams.records.topics import CONTROL, MANIFOLDS
from streams.stack.embedded import EmbeddedBroker
from streams.stack.kafka import KafkaBroker
from streams.trading.kill_switch.commands import NotCleared, disengage, engage
from streams.trading.kill_switch.keeper import KillSwitchKeeper
from streams.trading.kill_switch.key import KillSwitchKey
from tests.support.candle_files import market, write_csv
from tests.support.deployment import Deployment
from tests.support.kill_switch_place import KEY, Place, engaged_by, now_ms
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.kafka

KEPT = f"{KEY}:kept"
KEY_IS_MISSING = -2
"""What Valkey says of the time left of a key that has expired."""
MakePlace = Callable[..., Place]


@pytest.fixture
def make_place(kafka: KafkaBroker, topic_prefix: str, valkey_url: str) -> Iterator[MakePlace]:
    made: list[Place] = []

    def make(**env: str) -> Place:
        made.append(Place(kafka.bootstrap, f"{topic_prefix}{len(made)}.", valkey_url, **env))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place()


@pytest.fixture
def off(make_place: MakePlace) -> tuple[Place, KillSwitchKeeper]:
    """A place whose kill switch is off, with the keeper that says so."""
    place = make_place(KILL_SWITCH="0")
    keeper = place.keeper()
    assert keeper.round()
    assert place.plain() == "off"
    return place, keeper


# -- a life ---------------------------------------------------------------------------------------


def test_it_is_engaged_until_the_log_and_a_living_keeper_say_off(place: Place) -> None:
    reader, keeper = place.reader(), place.keeper()
    found = reader.read()
    assert engaged_by(found, "no kill switch record in ops.control")
    assert engaged_by(found, f"{KEY} is missing")
    assert keeper.round()
    (first,) = place.words()
    assert (first.value, first.actor) == ('{"engaged":true}', "environment")
    assert place.valkey.get(KEY) == b"1"
    assert place.off("checked").still == f"{KEY} in Valkey says '1'"
    found = reader.read()
    assert engaged_by(found, f"{KEY} in Valkey says '1'")
    assert found.log is not None
    assert not found.log.engaged
    assert keeper.round()
    assert place.valkey.get(KEY) == b"0"
    assert 0 < place.valkey.pttl(KEY) <= 15_000
    found = reader.read()
    assert (found.engaged, found.why) == (False, ())
    assert (found.actor, found.reason, found.offset) == ("ben", "checked", 1)
    assert found.since_ms == place.words()[1].as_of_ms
    assert asyncio.run(reader.aread()) == found
    done = place.on("enough")
    assert (done.offset, done.key_problem) == (2, "")
    assert place.valkey.get(KEY) == b"1", "at once, before any round of the keeper"
    found = reader.read()
    assert engaged_by(found, "ops.control: engaged by ann: enough")
    assert engaged_by(found, f"{KEY} in Valkey says '1'")


def test_a_word_in_the_log_alone_is_seen_at_the_next_question(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off
    reader = place.reader()
    assert not reader.read().engaged
    for value in ('{"engaged":true}', "{}", "not even json"):
        place.say(value)
        assert engaged_by(reader.read(), "by cat")
        place.say('{"engaged":false}')
        assert not reader.read().engaged


def test_off_expires_without_a_keeper_and_then_counts_as_engaged(make_place: MakePlace) -> None:
    place = make_place(KILL_SWITCH_MAX_AGE_SEC="1", KILL_SWITCH="0")
    reader, keeper = place.reader(), place.keeper()

    def off() -> bool:
        return keeper.round() and not reader.read().engaged

    # off lasts a second here: on a busy machine one round may be read too late
    until(off)
    until(lambda: place.plain() == "engaged")
    assert engaged_by(reader.read(), "is missing")
    until(off, "it lives again, and nothing was said meanwhile")
    assert len(place.words()) == 1


def test_nobody_lengthens_the_proof_of_life(off: tuple[Place, KillSwitchKeeper]) -> None:
    place, _ = off
    reader = place.reader()
    kept = json.loads(place.valkey.get(KEPT))
    late_ms = now_ms() + 3_600_000
    old = kept | {"stamp_ms": kept["stamp_ms"] - 15_001, "expires_ms": late_ms}
    place.valkey.set(KEY, "0", pxat=late_ms)
    place.valkey.set(KEPT, json.dumps(old))
    assert engaged_by(reader.read(), "no fresh heartbeat")


# -- an operator's word in Valkey -----------------------------------------------------------------


OTHER_HANDS = (
    ("SET", KEY, "1"),
    ("SET", KEY, "1", "EX", "3600"),
    ("SET", KEY, "1", "KEEPTTL"),
    ("SET", KEY, "on"),
    ("SET", KEY, ""),
    ("SET", KEY, "00"),
    ("APPEND", KEY, "\n"),
    ("SET", KEY, "0"),
    ("SET", KEY, "0", "EX", "3600"),
    ("PERSIST", KEY),
    ("EXPIRE", KEY, "3600"),
    ("DEL", KEY),
    ("DEL", KEPT),
    ("DEL", KEY, KEPT),
    ("SET", KEPT, "{}"),
    ("RENAME", KEY, "other"),
    ("FLUSHDB",),
)


def test_whatever_another_hand_does_engages_at_once_and_is_told_to_the_log(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    reader = place.reader()
    for command in OTHER_HANDS:
        before = reader.read()
        assert not before.engaged, command
        assert before.offset is not None
        place.valkey.execute_command(*command)
        assert reader.read().engaged, command
        assert keeper.round()
        said = reader.read().log
        assert said is not None
        assert (said.engaged, said.actor, said.offset) == (True, "valkey", before.offset + 1)
        assert KEY in said.reason
        assert place.valkey.get(KEY) == b"1"
        assert 0 < place.valkey.pttl(KEY) <= 15_000
        assert keeper.round()
        assert place.off().offset == before.offset + 2, "told once"
        assert keeper.round()


def test_a_value_of_another_type_engages_and_is_replaced_once_the_log_has_it(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    place.valkey.delete(KEY)
    place.valkey.hset(KEY, "engaged", "0")
    assert engaged_by(place.reader().read(), "says a hash")
    assert keeper.round()
    assert "a hash" in place.words()[-1].reason
    assert place.valkey.get(KEY) == b"1"


def test_neither_a_zero_nor_a_deletion_clears(place: Place) -> None:
    keeper, reader = place.keeper(), place.reader()
    keeper.round()
    for clear in (lambda: place.valkey.set(KEY, "0"), place.valkey.flushdb):
        clear()
        assert engaged_by(reader.read(), "ops.control: engaged")
        assert keeper.round()
        assert place.valkey.get(KEY) == b"1"
    assert len(place.words()) == 1, "it was engaged already"


def test_an_operators_word_is_told_even_when_it_is_engaged_already(place: Place) -> None:
    keeper = place.keeper()
    place.on()
    place.valkey.set(KEY, "1")
    assert keeper.round()
    assert [w.actor for w in place.words()] == ["ann", "valkey"]
    place.valkey.set(KEY, "1")
    assert keeper.round()
    assert len(place.words()) == 2, "the same word again adds nothing"


def test_off_is_refused_while_an_operators_word_is_on_its_way(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    place.valkey.set(KEY, "1")
    with pytest.raises(NotCleared, match="the log does not have that yet") as refused:
        place.off()
    assert refused.value.exit_code == 1
    assert len(place.words()) == 1
    assert place.valkey.pttl(KEY) == -1, "left as it was said"
    keeper.round()
    place.off()
    keeper.round()
    assert place.plain() == "off"


def test_an_operators_word_survives_a_logged_on_and_is_told_after_it(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    place.valkey.set(KEY, "1")
    assert place.on().key_problem == ""
    assert place.valkey.pttl(KEY) == -1, "never overwritten before the log has it"
    keeper.round()
    assert [w.actor for w in place.words()[1:]] == ["ann", "valkey"]


def test_a_word_set_while_no_keeper_ran_is_told_by_the_next_one(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off
    place.valkey.set(KEY, "1")
    next_one = place.keeper()
    until(lambda: next_one.round() and place.words()[-1].actor == "valkey", every_s=0.1)
    assert place.plain() == "engaged"


# -- between two steps of the keeper --------------------------------------------------------------


def between(keeper: KillSwitchKeeper, act: Callable[[], Any]) -> None:
    """Let ``act`` happen once, after the keeper has read the log and before it writes the key."""
    tail: Any = keeper._tail
    refresh = tail.refresh

    def interrupted(within_s: float) -> Any:
        switch = refresh(within_s)
        tail.refresh = refresh
        act()
        return switch

    tail.refresh = interrupted


def test_an_operators_word_between_reading_and_writing_stays(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    acts = (
        lambda: place.valkey.set(KEY, "1"),
        lambda: place.valkey.delete(KEY),
        lambda: place.valkey.delete(KEPT),
        place.valkey.flushdb,
    )
    for act in acts:
        between(keeper, act)
        assert not keeper.round()
        assert keeper.round()
        assert place.plain() == "engaged"
        assert place.words()[-1].actor == "valkey"
        place.off()
        assert keeper.round()
        assert place.plain() == "off"


def test_an_on_logged_between_reading_and_writing_is_never_undone(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    between(keeper, place.on)
    assert not keeper.round()
    assert place.plain() == "engaged"
    assert keeper.round()
    assert place.plain() == "engaged"


def test_a_keeper_frozen_beyond_its_proof_of_life_writes_nothing(make_place: MakePlace) -> None:
    place = make_place(KILL_SWITCH_MAX_AGE_SEC="1", KILL_SWITCH="0")
    keeper = place.keeper()
    assert keeper.round()

    def freeze() -> None:
        place.say('{"engaged":true}')  # without the companion: nothing but time stands against it
        time.sleep(1.1)

    between(keeper, freeze)
    assert not keeper.round()
    assert place.plain() == "engaged"
    assert keeper.round()
    assert place.valkey.get(KEY) == b"1"


def test_an_off_made_from_an_old_reading_expires_with_the_age_of_that_reading(
    make_place: MakePlace,
) -> None:
    place = make_place(KILL_SWITCH_MAX_AGE_SEC="1", KILL_SWITCH="0")
    keeper = place.keeper()
    assert keeper.round()
    between(keeper, lambda: (place.say('{"engaged":true}'), time.sleep(0.6)))
    keeper.round()
    left_ms = place.valkey.pttl(KEY)
    assert left_ms == KEY_IS_MISSING or 0 < left_ms <= 400
    until(lambda: place.plain() == "engaged")


def test_off_is_not_written_by_a_clock_that_went_back_or_too_late(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off
    key = KillSwitchKey(place.runtime, place.settings)
    now = key.look()
    kept = now.kept
    assert kept is not None
    ahead = now._replace(now_ms=now.now_ms + 60_000)
    assert not key.swap(ahead, kept, until_ms=ahead.now_ms + 15_000)
    assert not key.swap(now, kept, until_ms=now.now_ms - 1)
    assert key.swap(now, kept, until_ms=now.now_ms + 15_000)
    key.close()


def test_a_keeper_killed_between_telling_the_log_and_writing_leaves_the_word(
    off: tuple[Place, KillSwitchKeeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, keeper = off

    class Killed(Exception):
        pass

    def swap(*_: Any, **__: Any) -> bool:
        raise Killed

    place.valkey.set(KEY, "1")
    monkeypatch.setattr(keeper._key, "swap", swap)
    with pytest.raises(Killed):
        keeper.round()
    assert place.words()[-1].actor == "valkey"
    assert place.valkey.pttl(KEY) == -1
    next_one = place.keeper()
    until(lambda: next_one.round() and place.valkey.pttl(KEY) > 0, every_s=0.1)
    assert sum(w.actor == "valkey" for w in place.words()) == 1, "told once"


def test_of_two_keepers_one_writes_and_the_other_takes_over(make_place: MakePlace) -> None:
    place = make_place(KILL_SWITCH_MAX_AGE_SEC="4", KILL_SWITCH="0")
    first, second = place.keeper(), place.keeper()
    assert first.round()
    written = place.valkey.get(KEPT)
    assert second.round()
    assert place.valkey.get(KEPT) == written, "it stands by"
    assert len(place.words()) == 1
    time.sleep(1.4)
    assert second.round()
    taken = place.valkey.get(KEPT)
    assert taken != written
    assert first.round()
    assert place.valkey.get(KEPT) == taken
    place.valkey.set(KEY, "1")
    time.sleep(1.4)
    for keeper in (first, second):
        keeper.round()
    assert [w.actor for w in place.words()] == ["environment", "valkey"]


# -- how it starts --------------------------------------------------------------------------------


def test_the_environment_speaks_only_where_the_log_has_no_record(make_place: MakePlace) -> None:
    place = make_place()
    assert place.keeper(KILL_SWITCH="0").round()
    assert place.plain() == "off"
    place.on()
    time.sleep(2.0)
    for text in ("0", "1"):
        place.keeper(KILL_SWITCH=text).round()
        assert [w.actor for w in place.words()] == ["environment", "ann"]
    assert place.plain() == "engaged"


def test_the_environment_may_be_forced_upon_the_log_but_not_upon_an_operators_word(
    make_place: MakePlace,
) -> None:
    place = make_place()
    place.on()
    forced = {"KILL_SWITCH": "0", "KILL_SWITCH_FORCE_ENV": "1"}
    keeper = place.keeper(**forced)
    assert keeper.round()
    assert place.words()[-1].reason == "KILL_SWITCH_FORCE_ENV=1: KILL_SWITCH=0"
    assert place.plain() == "off"
    place.on()
    place.valkey.set(KEY, "1")
    time.sleep(2.0)
    place.keeper(**forced).round()
    assert place.words()[-1].actor == "valkey"
    assert place.plain() == "engaged"


def test_an_off_given_before_any_keeper_ran_holds(place: Place) -> None:
    done = place.off()
    assert "no fresh heartbeat" in done.still or "says '1'" in done.still
    assert place.keeper().round()
    assert place.plain() == "off"
    assert len(place.words()) == 1


def test_valkey_of_another_log_is_engaged(make_place: MakePlace) -> None:
    one, other = make_place(KILL_SWITCH="0"), make_place(KILL_SWITCH="0")
    assert one.keeper().round()
    assert engaged_by(other.reader().read(), "is of another log")
    keeper = other.keeper()
    other.off()
    assert other.plain() == "engaged"
    keeper.round()
    assert engaged_by(one.reader().read(), "is of another log")


def test_it_is_kept_on_the_embedded_broker(
    embedded_broker: EmbeddedBroker, topic_prefix: str, valkey_url: str
) -> None:
    place = Place(embedded_broker.bootstrap, topic_prefix, valkey_url, KILL_SWITCH="0")
    try:
        keeper, reader = place.keeper(), place.reader()
        assert keeper.round()
        assert not reader.read().engaged
        many = [Control("universe", None, "{}", "x", "x", now_ms())] * 3
        append_control(place.runtime, place.codec, many)  # one batch, whose end it tells wrongly
        assert not reader.read().engaged
        place.valkey.set(KEY, "1")
        assert keeper.round()
        assert engaged_by(reader.read(), "engaged by valkey")
        place.off()
        assert keeper.round()
        assert not reader.read().engaged
        place.on()
        assert engaged_by(reader.read(), "engaged by ann")
    finally:
        place.close()


# -- what is away ---------------------------------------------------------------------------------


def test_an_on_while_valkey_is_away_waits_until_every_off_there_has_expired(
    make_place: MakePlace,
) -> None:
    place = make_place(KILL_SWITCH_MAX_AGE_SEC="1", KILL_SWITCH="0")
    assert place.keeper().round()
    away = place.runtime
    object.__setattr__(away, "valkey_url", f"redis://127.0.0.1:{free_port()}/0")
    done = place.on(valkey_wait_s=0.0)
    assert "does not answer" in done.key_problem
    assert place.plain() == "off", "a plain reader of a Valkey that we cannot reach"
    done = place.on(valkey_wait_s=5.0)
    assert done.key_problem == ""
    assert place.plain() == "engaged"


def test_an_on_while_the_log_is_away_engages_by_the_key_and_says_so(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, keeper = off
    servers = place.runtime.kafka_bootstrap_servers
    object.__setattr__(place.runtime, "kafka_bootstrap_servers", f"127.0.0.1:{free_port()}")
    command = subprocess.Popen(
        [sys.executable, "-m", "streams", "kill", "on", "--reason", "no log"],
        env=place.environment | {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: place.plain() == "engaged")
        object.__setattr__(place.runtime, "kafka_bootstrap_servers", servers)
        assert keeper.round()
        assert place.words()[-1].actor == "valkey"
    finally:
        command.kill()
        command.communicate()


def test_a_reader_never_raises_and_never_says_off_when_something_is_away(
    off: tuple[Place, KillSwitchKeeper], make_place: MakePlace
) -> None:
    place, _ = off
    nowhere = f"127.0.0.1:{free_port()}"
    servers, url = place.runtime.kafka_bootstrap_servers, place.runtime.valkey_url
    object.__setattr__(place.runtime, "kafka_bootstrap_servers", nowhere)
    reader = place.reader(within_s=0.5)
    found = reader.read()
    assert engaged_by(found, "ops.control cannot be read: no broker answers")
    assert found.log is None
    object.__setattr__(place.runtime, "kafka_bootstrap_servers", servers)
    object.__setattr__(place.runtime, "valkey_url", f"redis://:hunter2@{nowhere}/0")
    found = place.reader().read()
    assert engaged_by(found, "Valkey (VALKEY_URL) does not answer")
    assert "hunter2" not in str(found)
    object.__setattr__(place.runtime, "valkey_url", url)
    object.__setattr__(place.runtime, "topic_prefix", "nowhere.")
    assert engaged_by(place.reader().read(), "topic nowhere.ops.control does not exist")


def test_a_reader_with_an_error_of_its_own_is_engaged(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off

    class Broken:
        def decode(self, *_: Any) -> Any:
            raise ZeroDivisionError

    place.codec = Broken()  # type: ignore[assignment]
    assert engaged_by(place.reader().read(), "could not be read: ZeroDivisionError")


# -- other writers of the log ---------------------------------------------------------------------


def test_a_word_of_an_open_transaction_is_none_and_what_it_hides_is_engaged(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off
    reader = place.reader(within_s=1.0)
    assert not reader.read().engaged
    producer = Producer(
        {
            "bootstrap.servers": place.runtime.kafka_bootstrap_servers,
            "transactional.id": place.runtime.topic("stranger"),
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    value = place.codec.encode(CONTROL, Control("universe", None, "{}", "x", "x", now_ms()))
    producer.produce(place.runtime.topic(CONTROL), value, b"universe", partition=0)
    producer.flush(10)
    place.say('{"engaged":true}')  # acknowledged, and hidden from committed readers
    assert engaged_by(reader.read(), "a transaction of another producer may be open")
    producer.abort_transaction(10)
    reader = place.reader()
    assert engaged_by(reader.read(), "engaged by cat")


def test_bytes_that_are_no_record_engage(off: tuple[Place, KillSwitchKeeper]) -> None:
    place, _ = off
    reader = place.reader()
    producer = Producer({"bootstrap.servers": place.runtime.kafka_bootstrap_servers})
    producer.produce(place.runtime.topic(CONTROL), b'{"engaged":false}', b"kill_switch")
    producer.flush(10)
    assert engaged_by(reader.read(), "the record at offset 1 cannot be read")


def test_an_off_that_arrives_after_an_on_it_did_not_know_clears_nothing(
    off: tuple[Place, KillSwitchKeeper],
) -> None:
    place, _ = off
    reader = place.reader()
    late = KillSwitchCommand(False, len(place.words())).to_json()
    place.say('{"engaged":true}')
    place.say(late)
    assert engaged_by(reader.read(), "repeat it")


# -- the rest of the product ----------------------------------------------------------------------


def test_words_between_the_candles_and_a_rebuild_of_the_mirror_leave_each_other_alone(
    kafka: KafkaBroker, topic_prefix: str, valkey_url: str, tmp_path: Path
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="1",
        VALKEY_URL=valkey_url,
    )
    every = market(("EUR_USD",), 200)
    who = (deployment.runtime, deployment.codec, "ann", "half-way", now_ms())
    settings = KillSwitchSettings()
    try:
        deployment.start_worker()
        assert deployment.run("load", write_csv(tmp_path / "a.csv", every[:150])).returncode == 0
        offset = engage(*who, settings).offset
        disengage(*who, settings, wait_s=0.0)
        done = deployment.run("load", write_csv(tmp_path / "b.csv", every))
        assert done.returncode == 0, done.stderr
        deployment.settle()
        stamps = {e.control_offset for e in deployment.events(MANIFOLDS)}
        assert min(stamps) <= offset < max(stamps), "the words lie between the candles"
        with redis.Redis.from_url(valkey_url) as client:
            client.set(KEY, "by hand")
            held = (client.get(KEY), client.pttl(KEY), client.get(KEPT))
            asyncio.run(rebuild(deployment.runtime, Config(), deployment.codec))
            assert client.exists("risk:allocation_weights")
            assert (client.get(KEY), client.pttl(KEY), client.get(KEPT)) == held
        deployment.require_verified()
    finally:
        deployment.stop()


def test_a_huge_value_is_read_as_engaged_without_being_transferred(make_place: MakePlace) -> None:
    place = make_place()
    place.off()
    keeper = place.keeper()
    keeper.round()
    reader = place.reader()
    try:
        assert not reader.read().engaged
        # A client without a time limit: 50 MB take a busy machine longer than the other has.
        with redis.Redis.from_url(place.environment["VALKEY_URL"]) as patient:
            patient.set(KEY, b"0" * 50_000_000)
        before = place.valkey.info("stats")["total_net_output_bytes"]
        found = reader.read()
        sent = place.valkey.info("stats")["total_net_output_bytes"] - before
        assert sent < 1_000_000
        assert found.engaged and any("50000000 bytes" in why for why in found.why)
        keeper.round()
        assert reader.read().engaged
    finally:
        reader.close()


def manifold(*arguments: str) -> int:
    """Run a command in this process; return its exit code."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_the_commands(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place(KILL_SWITCH="0")
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    keeper = place.keeper()
    keeper.round()
    assert manifold("kill", "status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engaged"], found["why"], found["valkey"]) == (False, [], "0")
    assert found["log"]["offset"] == found["offset"] == 0
    assert manifold("kill", "on", "--reason", "half-way", "--actor", "ann") == 0
    assert "ops.control has it at offset 1" in capsys.readouterr().out
    assert place.valkey.get(KEY) == b"1"
    assert manifold("kill", "status") == 1
    told = capsys.readouterr().out
    assert told.startswith("ENGAGED since ")
    assert "ops.control: engaged by ann: half-way" in told
    place.valkey.set(KEY, "by hand")
    assert manifold("kill", "off", "--reason", "x") == 1
    assert f"{KEY} in Valkey was set to 'by hand' by another writer" in capsys.readouterr().err
    keeper.round()
    monkeypatch.setattr("streams.cli.kill.disengage", partial(disengage, wait_s=0.1))
    assert manifold("kill", "off", "--reason", "x", "--json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["engaged"] is True
    assert f"still engaged: {KEY} in Valkey says '1'" in told.err
    keeper.round()
    assert manifold("kill", "off", "--reason", "again") == 0
    assert "off: ops.control has it at offset 4" in capsys.readouterr().out
    for nothing in (" ", "\u200b\u2060\u3164", "\x1b\r"):
        assert manifold("kill", "on", "--reason", nothing) == 2
        assert "the reason is empty or has no visible" in capsys.readouterr().err
    assert manifold("kill", "on", "--reason", "\x1b[2Joff\u202e\nENGAGED no more") == 0
    capsys.readouterr()
    assert manifold("kill", "status") == 1
    told = capsys.readouterr().out
    assert "\\u001b[2Joff\\u202e\\u000aENGAGED no more" in told
    assert "\x1b" not in told and "\u202e" not in told and "\nENGAGED" not in told


def shown_at(port: int) -> list[str]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        return list(answer.read().decode().splitlines())


def test_the_command_that_keeps_shows_what_it_knows_and_leaves_when_told(
    make_place: MakePlace, tmp_path: Path
) -> None:
    place, port = make_place(KILL_SWITCH="0"), free_port()
    command = [sys.executable, "-m", "streams", "kill", "keep", "--metrics-port", str(port)]
    child = Child("keeper", command, tmp_path / "keeper.log", place.environment)
    child.start()
    try:
        child.wait_until(lambda: place.plain() == "off", PATIENCE_S)
        place.valkey.set(KEY, "1")
        until(lambda: place.valkey.pttl(KEY) > 0)
        until(lambda: "manifold_kill_switch_engaged 1.0" in shown_at(port))
        shown = shown_at(port)
        assert 'manifold_kill_switch_source{source="log"} 1.0' in shown
        assert 'manifold_kill_switch_appended_total{actor="environment"} 1.0' in shown
        assert 'manifold_kill_switch_appended_total{actor="valkey"} 1.0' in shown
        assert child.stop(PATIENCE_S) == 0
        assert place.plain() == "engaged"
    finally:
        child.stop()
    assert "was set to '1' by another writer" in child.last_output(5)


def test_without_a_broker_status_is_engaged_and_off_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", nowhere)
    monkeypatch.setenv("VALKEY_URL", f"redis://:hunter2@{nowhere}/0")
    monkeypatch.setattr("streams.trading.kill_switch.commands.READ_S", 0.5)
    monkeypatch.setattr("streams.cli.kill.READ_S", 0.5)
    assert manifold("kill", "status") == 1
    assert manifold("kill", "off", "--reason", "x") == 75
    told = capsys.readouterr()
    assert told.out.startswith("ENGAGED")
    assert "Valkey (VALKEY_URL) does not answer" in told.out
    (sentence,) = told.err.splitlines()
    assert "no broker answers at KAFKA_BOOTSTRAP_SERVERS" in sentence
    assert "hunter2" not in told.out + told.err
