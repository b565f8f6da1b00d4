"""What a record is under another prefix, and what a migration refuses and says. No broker."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import Config
from streams.errors import Fatal
from streams.migration.plan import COPIED, DERIVED, Migration, TopicCopy, check_prefixes, next_steps
from streams.migration.translate import ControlOffsets, Translator, id_changes
from streams.records import schemas
from streams.records.codec import Codec, locked_codec
from streams.records.control import ControlLog
from streams.records.events import Candle, Control, Watermark
from streams.records.kill_switch import KillSwitch, KillSwitchCommand, fold_kill_switch
from streams.records.topics import CANDLES, CONTROL, FILLS, ORDERS, TOPICS
from streams.records.trading_events import BrokerReport, OrderIntent
from streams.records.value_rules import MOST_OFFSET
from streams.trading.flatten import flatten_record
from tests.support.sample_events import SAMPLES

SHIFT = 500
T0 = 1_704_880_800_000
OLD, NEW = "old.", "new."


def ids_of(prefix: str, shift: int = 0) -> dict[str, list[int]]:
    """Return the ids of the lock file under a prefix, shifted as another registry gives them."""
    return {
        prefix + name: [entry.id + shift for _, entry in sorted(versions.items())]
        for name, versions in schemas.read_lock().items()
    }


def codec_of_both(shift: int = SHIFT) -> Codec:
    files = {one.file: one.text for every in schemas.released().values() for one in every}
    texts = {
        entry.id: files[entry.file]
        for versions in schemas.read_lock().values()
        for entry in versions.values()
    }
    made = Codec(ids_of(OLD), texts, OLD)
    made.learn({schema_id + shift: text for schema_id, text in texts.items()})
    return made


CODEC = codec_of_both()
CHANGES = id_changes(COPIED, (OLD, ids_of(OLD)), (NEW, ids_of(NEW, SHIFT)))
SAME: dict[str, dict[int, int]] = {topic: {} for topic in COPIED}


def offsets_of(source: Sequence[int], end: int, target: Sequence[int]) -> ControlOffsets:
    made = ControlOffsets(source, end)
    made.target = target
    return made


def stamped(topic: str, offset: int) -> list[Any]:
    """Return the sample events of a topic, stamped with an offset of ops.control."""
    return [
        event._replace(control_offset=offset) if hasattr(event, "control_offset") else event
        for event in SAMPLES.values()
        if type(event).__name__ in TOPICS[topic].records
    ]


def gaps(draw_from: st.DataObject, count: int) -> list[int]:
    steps = draw_from.draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    first = draw_from.draw(st.integers(0, 3))
    return [first + at - 1 for at in itertools.accumulate(steps)]


@given(st.data(), st.integers(0, 12))
def test_the_same_control_records_lie_before_every_translated_offset(
    data: st.DataObject, count: int
) -> None:
    source, target = gaps(data, count), gaps(data, count)
    end = (source[-1] if source else 0) + data.draw(st.integers(1, 3))
    made = offsets_of(source, end, target)
    translated = [made.translated(offset) for offset in range(end + 1)]
    assert translated == sorted(translated)
    for offset, new in enumerate(translated):
        assert sum(at < new for at in target) == sum(at < offset for at in source)
        for old_at, new_at in zip(source, target, strict=True):
            # the rule of a flatten: an opening order made before the record is closed by it
            assert (offset <= old_at) == (new <= new_at)
    with pytest.raises(Fatal, match="was recreated"):
        made.translated(end + 1)


@pytest.mark.parametrize("topic", [CANDLES, ORDERS, FILLS])
def test_only_the_id_and_the_stamp_change(topic: str) -> None:
    made = Translator(CODEC, CHANGES, offsets_of((0, 2, 5), 7, (0, 1, 2)))
    for before, after in ((0, 0), (1, 1), (2, 1), (3, 2), (5, 2), (6, 3), (7, 3)):
        for event, moved in zip(stamped(topic, before), stamped(topic, after), strict=True):
            value = CODEC.encode(topic, event)
            new_id = int.from_bytes(value[1:5], "big") + SHIFT
            assert made.value(topic, 9, value) == CODEC.encode_with_id(new_id, moved)


@pytest.mark.parametrize("topic", COPIED)
def test_the_same_ids_and_offsets_leave_every_byte(topic: str) -> None:
    made = Translator(CODEC, SAME, offsets_of(range(99), 99, range(99)))
    for event in stamped(topic, 7):
        value = CODEC.encode(topic, event)
        assert made.value(topic, 50, value) == value


@given(st.binary(max_size=40), st.sampled_from(COPIED), st.booleans())
def test_what_is_no_event_keeps_its_body(body: bytes, topic: str, framed: bool) -> None:
    made = Translator(CODEC, CHANGES, offsets_of((), 0, ()))
    known = next(iter(CHANGES[topic]))
    value = (b"\0" + known.to_bytes(4, "big") + b"\xff\xff\xff" if framed else b"\x07") + body
    moved = made.value(topic, 0, value)
    assert moved is not None
    assert moved[5:] == value[5:]
    assert made.value(topic, 0, None) is None
    if not framed:
        assert moved == value


def test_an_older_version_of_a_record_stays_one() -> None:
    versions = ids_of(OLD)[f"{OLD}{ORDERS}-value"]
    assert len(versions) > 1
    made = Translator(CODEC, CHANGES, offsets_of((4,), 5, (0,)))
    (intent, *_) = stamped(ORDERS, 5)
    value = CODEC.encode_with_id(versions[0], intent)
    moved = made.value(ORDERS, 0, value)
    assert moved == CODEC.encode_with_id(versions[0] + SHIFT, intent._replace(control_offset=1))


KINDS = st.lists(
    st.tuples(st.sampled_from(["on", "off", "off, read", "other"]), st.integers(0, 30)),
    max_size=8,
)


@given(KINDS, st.data())
def test_the_kill_switch_says_the_same_under_other_offsets(
    kinds: list[tuple[str, int]], data: st.DataObject
) -> None:
    source, target = gaps(data, len(kinds)), gaps(data, len(kinds))
    words = {"on": KillSwitchCommand(True), "off": KillSwitchCommand(False)}
    records = [
        Control("audit", None, "{}", "a", "r", T0 + at)
        if kind == "other"
        else Control(
            "kill_switch",
            None,
            words.get(kind, KillSwitchCommand(False, read_to)).to_json(),
            "a",
            "r",
            T0 + at,
        )
        for at, (kind, read_to) in enumerate(kinds)
    ]
    offsets = ControlOffsets(source, (source[-1] if source else 0) + 1)
    made = Translator(CODEC, SAME, offsets)
    moved: list[tuple[int, Any]] = []
    for number, (old_at, record) in enumerate(zip(source, records, strict=True)):
        offsets.target = target[:number]  # only what lies before it is copied by then
        value = made.value(CONTROL, old_at, CODEC.encode(CONTROL, record))
        moved.append((target[number], CODEC.decode(CONTROL, value)))
        before: KillSwitch = fold_kill_switch(zip(source, records[: number + 1], strict=False))
        after: KillSwitch = fold_kill_switch(moved)
        assert (after.engaged, after.since_ms) == (before.engaged, before.since_ms)


def test_control_records_refer_back_only_where_a_clearing_says_how_far_it_had_read() -> None:
    made = Translator(CODEC, SAME, offsets_of((), 0, ()))
    refers = {
        KillSwitchCommand(True).to_json(): False,
        KillSwitchCommand(False).to_json(): False,
        KillSwitchCommand(False, 3).to_json(): True,
        "{}": False,
    }
    for text, back in refers.items():
        record = Control("kill_switch", None, text, "a", "r", T0)
        assert made.refers_back(CODEC.encode(CONTROL, record)) is back
    assert not made.refers_back(CODEC.encode(CONTROL, flatten_record("1", "a", "r", T0)))
    assert not made.refers_back(b"garbage") and not made.refers_back(None)


def test_a_watermark_meets_the_same_state_of_control() -> None:
    texts = [Config.from_env({"ALLOC_TOP_K": str(k)}).to_json() for k in (3, 4, 5)]
    source, target = (0, 3, 7), (0, 1, 2)
    logs = (ControlLog(), ControlLog())
    for log, offsets in zip(logs, (source, target), strict=True):
        for offset, text in zip(offsets, texts, strict=True):
            log.append(offset, Control("config", None, text, "a", "r", T0))
    logs[0].advance(9)
    made = Translator(CODEC, CHANGES, offsets_of(source, 9, target))
    for offset in range(10):
        mark = Watermark(T0, "M1", offset, ("EUR_USD",))
        moved = CODEC.decode(CANDLES, made.value(CANDLES, 0, CODEC.encode(CANDLES, mark)))
        assert isinstance(moved, Watermark)
        states = logs[0].state(offset), logs[1].state(moved.control_offset)
        assert states[0].config_id == states[1].config_id
        assert states[0].config == states[1].config


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a.", "a.", "is the prefix of this deployment"),
        ("", "", "is the prefix of this deployment"),
        ("", "v 2", "cannot begin a topic's name"),
        ("", "v/2.", "cannot begin a topic's name"),
        ("", "v" * 101, "cannot begin a topic's name"),
    ],
)
def test_a_prefix_that_cannot_be_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(Fatal, match=said):
        check_prefixes(old, new)


def test_facts_are_copied_and_everything_else_is_derived() -> None:
    check_prefixes("v1.", "")
    assert set(COPIED) | set(DERIVED) == set(TOPICS)
    assert set(COPIED) == {CANDLES, CONTROL, ORDERS, FILLS}
    stamped_types = {Watermark, OrderIntent, BrokerReport}
    with_offset = {type(e) for e in SAMPLES.values() if hasattr(e, "control_offset")} & {
        Candle, Control, *stamped_types,
    }  # fmt: skip
    assert with_offset == stamped_types


def test_the_result_counts_and_says_what_is_next() -> None:
    made = Migration("", "v2.", False, {CONTROL: TopicCopy(5, 2, 2), CANDLES: TopicCopy(3, 0, 3)})
    assert (made.left, made.as_dict()["next"]) == (1, [])
    made.complete = True
    said = "\n".join(made.as_dict()["next"])
    assert made.as_dict()["next"] == next_steps("v2.")
    order = [
        said.index(text)
        for text in (
            *("TOPIC_PREFIX=v2.", "manifold worker", "mirror --rebuild", "manifold verify"),
            *("manifold feed", "manifold trade", "manifold kill off"),
        )
    ]
    assert order == sorted(order)
    assert "TOPIC_PREFIX=''" in "\n".join(next_steps(""))


def test_the_lock_file_has_the_same_ids_under_every_prefix() -> None:
    assert id_changes(COPIED, ("", ids_of("")), (NEW, ids_of(NEW)))[CANDLES] == {
        i: i for i in {*ids_of("")[f"{CANDLES}-value"], *ids_of("")[f"{CANDLES}-Watermark"]}
    }
    assert locked_codec(OLD).schema_id(CANDLES, "Candle") == ids_of("")[f"{CANDLES}-value"][-1]


def test_a_watermark_of_control_that_is_not_there_is_refused_there_as_here() -> None:
    made = Translator(CODEC, SAME, offsets_of((0, 2), 3, (0, 5)))
    mark = Watermark(T0, "M1", 40, ("EUR_USD",))
    moved = CODEC.decode(CANDLES, made.value(CANDLES, 7, CODEC.encode(CANDLES, mark)))
    assert moved == mark._replace(control_offset=MOST_OFFSET)
