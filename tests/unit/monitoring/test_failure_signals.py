"""Every failure signal of the profile: what makes it, what does not, and what it says to do."""

from __future__ import annotations

from typing import Any

import pytest

from streams.candles.calendar import FX
from streams.candles.freshness import lookback_problems
from streams.candles.market_clock import market_at, open_ms_between
from streams.config.difference import Difference
from streams.config.settings import Config
from streams.kafka.decoding import InvalidKind
from streams.mirror.probe import MirroredManifold
from streams.monitoring.alerts import NAMES, failure_signals
from streams.monitoring.facts import CallFacts, KillFacts, LiveFacts, WaitingOrder, WorkerFacts
from streams.monitoring.preflight import preflight, ready
from tests.support.sample_facts import HOUR_MS, MINUTE_MS, OPEN, PAIRS, epoch, healthy, ms, signal

CHRISTMAS = ms("2024-12-25T12:00")
SATURDAY = ms("2024-03-09T12:00")
PAUSE = ms("2024-03-06T22:01")
"""Wednesday 17:01 New York."""
BY_TIME = (
    "candle_stale", "manifold_stale", "gates_blob_stale", "allocator_stale", "stream_silent",
    "eligible_few",
)  # fmt: skip


def part(facts: LiveFacts, name: str, **changed: object) -> LiveFacts:
    """Return the facts with one source changed."""
    return facts._replace(**{name: getattr(facts, name)._replace(**changed)})


def with_epochs(*epochs: Any) -> LiveFacts:
    return part(healthy(), "log", epochs=epochs)


def lagging(**lags: int) -> dict[str, int]:
    return {"signals": 0, "gates": 0, "weights": 0, "mirror": 0} | lags


def test_a_healthy_deployment_is_ok_in_everything() -> None:
    found = failure_signals(healthy(), OPEN, Config())
    assert [one.name for one in found] == list(NAMES)
    assert {one.name: one.detail for one in found if one.state != "ok"} == {}
    assert ready(preflight(healthy(), OPEN, Config()))


def test_of_nothing_known_nothing_is_ok() -> None:
    away = LiveFacts(PAIRS, away={"log": "no broker answers"})
    found = failure_signals(away, OPEN, Config())
    assert {one.state for one in found} == {"unknown"}
    assert "no broker answers" in signal("candle_stale", away).detail
    checks = preflight(LiveFacts(PAIRS), OPEN, Config())
    assert not ready(checks)
    assert {c.name: c.state for c in checks if c.state == "ok"} == {"sessions": "ok"}


HOUR_OLD = OPEN - HOUR_MS
ECHO = Difference("GATE_MODE", "adaptive", "echo")


def waiting(for_ms: int) -> LiveFacts:
    """Return facts with an order that the venue accepted so long ago."""
    accepted = (WaitingOrder("m-2", "EUR_USD", OPEN - for_ms),)
    return part(healthy(), "log", orders=healthy().log.orders._replace(waiting=accepted))


REFUSED = InvalidKind("exec.fills", "invalid_value", 3, 0, 77, OPEN - MINUTE_MS)


def started(**minutes_ago: tuple[int, ...]) -> LiveFacts:
    """Return facts with processes that were started so many minutes ago."""
    return healthy(
        starts={n: tuple(OPEN - m * MINUTE_MS for m in ago) for n, ago in minutes_ago.items()}
    )


CASES: list[tuple[str, str, LiveFacts, str]] = [
    ("a pair without a candle for an hour", "candle_stale",
     part(healthy(), "log", candles=dict.fromkeys(PAIRS, OPEN) | {"USD_JPY": HOUR_OLD}),
     "fail USD_JPY"),
    ("a pair that never had a candle", "candle_stale",
     part(healthy(), "log", candles={"EUR_USD": OPEN}), "fail GBP_USD has none"),
    ("an old manifold", "manifold_stale",
     part(healthy(), "valkey",
          manifolds=healthy().valkey.manifolds | {"EUR_USD": MirroredManifold(OPEN - 301_000)}),
     "fail EUR_USD"),
    ("a manifold just in time", "manifold_stale",
     part(healthy(), "valkey",
          manifolds=healthy().valkey.manifolds | {"EUR_USD": MirroredManifold(OPEN - 300_000)}),
     "ok"),
    ("a manifold without a metric", "manifold_stale",
     part(healthy(), "valkey",
          manifolds=healthy().valkey.manifolds | {"EUR_USD": MirroredManifold(OPEN, ("entropy",))}),
     "fail EUR_USD lacks entropy"),
    ("no blob", "gates_blob_stale", part(healthy(), "valkey", blob_ms=None), "fail there is no"),
    ("a blob that the allocator no longer takes", "gates_blob_stale",
     part(healthy(), "valkey", blob_ms=OPEN - 200_000), "warn usual 180 s"),
    ("a blob older than EVAL_INTERVAL_SEC", "gates_blob_stale",
     part(healthy(), "valkey", blob_ms=OPEN - 901_000), "fail 15 min of"),
    ("no allocator status", "allocator_stale", part(healthy(), "valkey", status_ms=None), "fail"),
    ("five epochs missed", "allocator_stale",
     part(healthy(), "valkey", status_ms=OPEN - 301_000), "fail"),
    ("empty weights with eligible gates", "weights_zeroed",
     with_epochs(epoch(OPEN - MINUTE_MS), epoch(OPEN, 2, 0)), "fail 0 with weight of 2 eligible"),
    ("empty weights because nobody is eligible", "weights_zeroed",
     with_epochs(epoch(OPEN, 0, 0)), "ok"),
    ("weights that only the log has", "weights_zeroed", part(healthy(), "valkey", weighted=0),
     "fail empty in Valkey"),
    ("fewer with weight than eligible and allowed", "selection_short",
     with_epochs(epoch(OPEN, 3, 2)), "warn 2 with weight, 3 eligible"),
    ("few eligible just now", "eligible_few",
     with_epochs(epoch(OPEN - MINUTE_MS, 3), epoch(OPEN, 2, 2)), "warn 2 of 4"),
    ("few eligible for ten minutes", "eligible_few",
     with_epochs(*(epoch(OPEN - n * MINUTE_MS, 2, 2) for n in range(10, -1, -1))), "fail 2 of 4"),
    ("five cool down", "cooldowns_many", with_epochs(epoch(OPEN, cooling=5)), "warn 5 of 4"),
    ("four cool down", "cooldowns_many", with_epochs(epoch(OPEN, cooling=4)), "ok"),
    ("a stage far behind", "stage_lag", part(healthy(), "log", lag=lagging(gates=4_000)),
     "warn gates 4,000"),
    ("a stage that stands still", "stage_lag",
     part(healthy(), "log", lag=lagging(gates=2), stalled_ms={"gates": 31_000}),
     "fail gates has made no progress for 31 s with a lag of 2 records"),
    ("refused input", "dead_letters", part(healthy(), "log", dead_letters_recent=3), "warn 3 in"),
    ("engaged for hours", "kill_switch_stuck",
     healthy(kill_switch=KillFacts(True, True, ("log",), OPEN - 3 * HOUR_MS, "ana", "lunch")),
     "warn engaged by ana: lunch for 3"),
    ("engaged since just now", "kill_switch_stuck",
     healthy(kill_switch=KillFacts(True, True, ("log",), OPEN - MINUTE_MS, "ana", "lunch")), "ok"),
    ("engaged against the log", "kill_switch_stuck",
     healthy(kill_switch=KillFacts(True, False, ("no fresh heartbeat",), OPEN)),
     "fail no fresh heartbeat"),
    ("engaged because nobody ever switched it", "kill_switch_stuck",
     healthy(kill_switch=KillFacts(True, None, ("no record",))), "warn no record"),
    ("a silent price stream", "stream_silent",
     part(healthy(), "feed", last_message_ms=OPEN - 31_000), "fail last message 31 s ago"),
    ("failed requests", "oanda_errors",
     part(healthy(), "feed", calls=CallFacts(2, HOUR_MS, False, "503")),
     "warn feed 2 in 60 min (503)"),
    ("an open breaker", "oanda_errors",
     part(healthy(), "executor", calls=CallFacts(9, HOUR_MS, True, "timeout")),
     "fail executor: timeout"),
    ("an executor that stopped", "executor_stale",
     part(healthy(), "executor", last_cycle_ms=OPEN - 91_000), "fail last cycle 91 s"),
    ("an executor that differs from its broker", "executor_stale",
     part(healthy(), "executor", differences=("EUR_USD 100 units more",)), "warn EUR_USD 100"),
    ("a decision that the executor refused", "executor_stale",
     part(healthy(), "executor", refused=(("opt.gates-0-7 is refused: after_clock", OPEN - 1),)),
     "warn opt.gates-0-7 is refused: after_clock"),
    ("an executor that is not reconciled", "executor_stale",
     part(healthy(), "executor", reconciled=False, trouble="the account is another"),
     "fail the account is another"),
    ("a closing that is refused", "closing_blocked",
     part(healthy(), "executor", cannot_close=("EUR_USD: MARKET_HALTED (tried once)",)),
     "fail cannot close EUR_USD: MARKET_HALTED"),
    ("an instrument that the venue does not trade", "closing_blocked",
     part(healthy(), "executor", untraded=("GBP_USD",)), "warn does not trade GBP_USD"),
    ("every order rejected", "orders_rejected",
     part(healthy(), "log", orders=healthy().log.orders._replace(rejected=4, last_reason="MARGIN")),
     "fail 4 rejected, 0 cancelled of 4 sent"),
    ("an order rejected", "orders_rejected",
     part(healthy(), "log", orders=healthy().log.orders._replace(rejected=1, last_reason="MARGIN")),
     "warn last: MARGIN"),
    ("an order nobody knows of", "orders_unresolved",
     part(healthy(), "log", orders=healthy().log.orders._replace(unresolved=("m-1",))), "fail m-1"),
    ("an order that waits for its price", "orders_unresolved", waiting(240_000),
     "ok 1 wait for a price"),
    ("an order that has waited for long", "orders_unresolved", waiting(301_000),
     "fail not filled for 300 s of open market: m-2 (EUR_USD)"),
    ("margin above what entries need", "margin_high",
     part(healthy(), "executor", margin_used=300.0, margin_available=700.0), "warn 30.0%"),
    ("margin at the overload", "margin_high",
     part(healthy(), "executor", margin_used=800.0, margin_available=200.0), "fail 80.0%"),
    ("no account yet", "margin_high", part(healthy(), "executor", margin_used=None), "unknown"),
    ("a worker and an executor of other settings", "config_differs",
     part(healthy(workers=WorkerFacts({"w-1:9108": (ECHO,), "w-2:9108": ()})), "executor",
          config_differs=(ECHO,)),
     "warn GATE_MODE is adaptive for the executor, worker w-1:9108, echo is active"),
    ("a service of other settings", "config_differs", healthy(config_differs=(ECHO,)),
     "warn for the service"),
    ("a feed of other settings", "config_differs",
     part(healthy(), "feed", config_differs=(ECHO,)), "warn for the feed"),
    ("nobody to ask for a worker's settings", "config_differs",
     healthy(workers=WorkerFacts({})), "ok no worker was queried (WORKER_METRICS_URLS)"),
    ("a worker that does not answer", "config_differs",
     healthy(workers=None, away={"workers": "nothing answers at w-1:9108"}),
     "unknown a worker is unavailable: nothing answers at w-1:9108"),
    ("a candle from the future", "clock_skew",
     part(healthy(), "log", candles=dict.fromkeys(PAIRS, OPEN + 5_000)),
     "fail 5 s behind the last candle of the log"),
    ("a clock that differs from the broker's", "clock_skew",
     part(healthy(), "feed", skew_ms=-9_000), "fail this machine's clock is 9 s ahead of OANDA"),
    ("a worker that restarts again and again", "restarts", started(worker=(70, 9, 6, 4, 1)),
     "fail restarted in the last 10 min: worker 4 times"),
    ("a mirror that restarted twice", "restarts", started(mirror=(30, 8, 2), worker=(30, 4)),
     "warn restarted in the last 10 min: mirror 2 times"),
    ("a start that is no restart, and one", "restarts", started(mirror=(9, 8)), "ok"),
    ("restarts of long ago", "restarts", started(mirror=(59, 30, 29, 28, 11)), "ok"),
    ("a record of starts that cannot be read", "restarts",
     part(healthy(), "valkey", starts=None), "unknown ops:process_starts"),
    ("a status port that shows restarts while Valkey is away", "restarts",
     started(worker=(20, 5, 4))._replace(valkey=None, away={"valkey": "no answer"}),
     "warn worker 2 times"),
    ("no Valkey to ask", "restarts", healthy(valkey=None, away={"valkey": "no answer"}),
     "unknown Valkey is unavailable: no answer"),
    ("a record that was refused just now", "invalid_records", healthy(invalid=(REFUSED,)),
     "warn exec.fills invalid_value (3), last exec.fills-0-77, 60 s ago"),
    ("a record that was refused yesterday", "invalid_records",
     healthy(invalid=(REFUSED._replace(at_ms=OPEN - HOUR_MS),)), "ok 3 known"),
    ("a record that was refused, and no log", "invalid_records",
     healthy(invalid=(REFUSED,), log=None, away={"log": "no broker answers"}),
     "warn exec.fills"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "facts", "wanted"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_makes_a_signal(name: str, facts: LiveFacts, wanted: str) -> None:
    state, _, words = wanted.partition(" ")
    found = signal(name, facts)
    assert (found.state, found.detail) == (state, found.detail)
    assert words in found.detail
    if state in ("warn", "fail"):
        assert found.action, "a person must know what to do"
    failing = {one.name for one in failure_signals(facts, OPEN, Config()) if one.state == "fail"}
    assert failing <= {name}, "one cause is one signal"


@pytest.mark.parametrize(
    "now_ms", [SATURDAY, PAUSE, CHRISTMAS], ids=["weekend", "daily pause", "Christmas"]
)
def test_nothing_is_late_while_the_market_is_closed(now_ms: int) -> None:
    old = healthy(now_ms - 12 * HOUR_MS)._replace(
        executor=healthy(now_ms).executor, kill_switch=healthy(now_ms).kill_switch
    )
    found = {one.name: one.state for one in failure_signals(old, now_ms, Config())}
    assert {name: found[name] for name in BY_TIME} == dict.fromkeys(BY_TIME, "quiet")
    assert not {"warn", "fail"} & set(found.values())
    assert ready(preflight(old, now_ms, Config()))


def test_a_weekend_is_no_age() -> None:
    friday, sunday = ms("2024-03-08T21:59"), ms("2024-03-10T21:05")  # clocks change between them
    assert market_at(FX, friday).closed_for == "weekend"
    assert market_at(FX, friday) == (False, sunday, "weekend")
    facts = healthy(friday)
    later = sunday + 100_000
    assert signal("manifold_stale", facts, later).detail.endswith("100 s old (EUR_USD)")
    assert signal("manifold_stale", facts, sunday + 301_000).state == "fail"


def test_restarts_and_refused_records_are_reported_at_the_weekend_too() -> None:
    starts = tuple(SATURDAY - n * MINUTE_MS for n in (40, 5, 3, 1))
    refused = REFUSED._replace(at_ms=SATURDAY - MINUTE_MS)
    facts = healthy(SATURDAY, starts={"mirror desk": starts}, invalid=(refused,))
    assert signal("restarts", facts, SATURDAY).state == "warn"
    assert signal("restarts", facts, SATURDAY).since_ms == starts[1]
    assert signal("invalid_records", facts, SATURDAY).state == "warn"


def test_a_continuous_market_is_never_closed() -> None:
    config = Config(market_calendar="continuous")
    for now_ms in (SATURDAY, PAUSE, CHRISTMAS):
        fresh, old = healthy(now_ms), healthy(now_ms - HOUR_MS)
        assert signal("candle_stale", fresh, now_ms, config).state == "ok"
        assert signal("candle_stale", old, now_ms, config).state == "fail"


def test_the_pause_of_nzd_pairs_makes_no_other_pair_late_and_none_of_them() -> None:
    opens = ms("2024-06-04T19:05")  # 07:05 in Auckland
    facts, now_ms = healthy(opens), opens + 100_000
    for name, last in (("NZD_USD", "ok"), ("EUR_USD", "fail")):
        # the last candle came a minute before the pause began
        stale = {**dict.fromkeys(PAIRS, now_ms), name: opens - 7 * MINUTE_MS}
        known = part(facts._replace(pairs=tuple(stale)), "log", candles=stale)
        assert signal("candle_stale", known, now_ms).state == last, name


@pytest.mark.parametrize(
    ("at", "is_open", "changes"),
    [
        ("2024-03-06T21:58:59", True, "2024-03-06T21:59"),  # winter time: 17:00 is 22:00 UTC
        ("2024-03-06T21:59", False, "2024-03-06T22:05"),
        ("2024-03-06T22:05", True, "2024-03-07T21:59"),
        ("2024-03-11T20:58:59", True, "2024-03-11T20:59"),  # summer time: 21:00 UTC
        ("2024-03-11T20:59", False, "2024-03-11T21:05"),
        ("2024-11-03T12:00", False, "2024-11-03T22:05"),
        ("2024-11-02T12:00", False, "2024-11-03T22:05"),
        ("2024-11-01T20:59", False, "2024-11-03T22:05"),
    ],
)
def test_the_market_keeps_new_yorks_clock(at: str, is_open: bool, changes: str) -> None:
    found = market_at(FX, ms(at))
    assert (found.open, found.next_change_ms) == (is_open, ms(changes))


def test_a_week_has_five_days_less_their_pauses() -> None:
    day = 24 * HOUR_MS - 6 * MINUTE_MS
    assert open_ms_between(FX, ms("2024-01-06"), ms("2024-01-13")) == 5 * day
    assert open_ms_between(FX, ms("2024-01-07T22:05"), ms("2024-01-08T22:05")) == day


@pytest.mark.parametrize(
    ("granularity", "most_ms"), [("M1", 300_000), ("M5", 360_500), ("H1", HOUR_MS + 60_500)]
)
def test_values_are_fresh_until_the_next_bar_must_be_there(granularity: str, most_ms: int) -> None:
    config = Config(candle_gran=granularity)
    for age_ms, state in ((most_ms, "ok"), (most_ms + 1, "fail")):
        then = OPEN - age_ms
        facts = part(healthy(), "log", candles=dict.fromkeys(PAIRS, then))
        manifolds = {pair: MirroredManifold(then) for pair in PAIRS}
        signals = dict.fromkeys(PAIRS, then)
        facts = part(facts, "valkey", manifolds=manifolds, signals=signals)
        assert signal("candle_stale", facts, config=config).state == state
        assert signal("manifold_stale", facts, config=config).state == state
        checks = {one.name: one.state for one in preflight(facts, OPEN, config)}
        assert checks["manifold_age"] == checks["signal_age"] == state


def gone(as_of_ms: int | None) -> LiveFacts:
    """Facts in which the key of EUR_USD is not there, and its history ends then."""
    manifolds = healthy().valkey.manifolds | {"EUR_USD": MirroredManifold(as_of_ms, there=False)}
    return part(healthy(), "valkey", manifolds=manifolds)


def test_a_key_that_is_gone_before_its_time_is_missing_and_one_that_expired_is_not() -> None:
    found = signal("manifold_stale", gone(OPEN - 98_000))
    assert (found.state, "EUR_USD is not in Valkey" in found.detail) == ("fail", True)
    checks = {one.name: one.state for one in preflight(gone(OPEN - 98_000), OPEN, Config())}
    assert checks["manifold_age"] == "fail"
    # after the daily pause the last value is 6 minutes old by the clock and 2 in open markets
    reopened = ms("2024-03-06T22:06")
    before = healthy(reopened)._replace(
        valkey=healthy(reopened).valkey._replace(
            manifolds={p: MirroredManifold(reopened - 8 * MINUTE_MS, there=False) for p in PAIRS}
        )
    )
    assert signal("manifold_stale", before, reopened).state == "ok"
    assert signal("manifold_stale", before, reopened + 4 * MINUTE_MS).state == "fail"
    assert "has none" in signal("manifold_stale", gone(None)).detail


@pytest.mark.parametrize("name", ["gates_blob_stale", "allocator_stale"])
@pytest.mark.parametrize(
    ("log", "who"),
    [
        ({}, "the mirror is down"),
        ({"epochs": (epoch(OPEN - HOUR_MS),)}, "the worker is down"),
        (
            {
                "epochs": (epoch(OPEN - HOUR_MS),),
                "candles": dict.fromkeys(PAIRS, OPEN - HOUR_MS),
            },
            "the feed is down",
        ),
    ],
)
def test_old_values_in_valkey_name_the_process_that_is_away(
    name: str, log: dict[str, Any], who: str
) -> None:
    facts = part(healthy(), "valkey", blob_ms=OPEN - HOUR_MS, status_ms=OPEN - HOUR_MS)
    found = signal(name, part(facts, "log", **log))
    assert found.state == "fail" and who in found.detail
    assert who.split()[1] in found.action


def test_an_epoch_of_ten_minutes_makes_no_blob_late() -> None:
    config = Config(alloc_interval_sec=600)
    facts = part(healthy(), "valkey", blob_ms=OPEN - 599_000)
    assert signal("gates_blob_stale", facts, config=config).state == "ok"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, []),
        ({"CANDLE_GRAN": "M5"}, []),
        (
            {"CANDLE_GRAN": "H1"},
            ["set SESSION_PATTERN_MIN_OCCURRENCES=1, or ECHO_LOOKBACK_MINUTES=240", "is shorter"],
        ),
        ({"CANDLE_GRAN": "H1", "SESSION_PATTERN_MIN_OCCURRENCES": "1"}, ["_MINUTES=62 at least"]),
        ({"CANDLE_GRAN": "H1", "ECHO_LOOKBACK_MINUTES": "1440"}, []),
        ({"GATE_MODE": "echo", "ECHO_LOOKBACK_MINUTES": "7"}, ["ECHO_MIN_REPETITIONS requires 3"]),
        ({"ECHO_LOOKBACK_MINUTES": "4"}, ["TTL of ws:last:manifold with bars of M1 (300 s)"]),
        ({"CANDLE_COUNT": "129"}, ["contain at most 1 windows"]),
        # two windows of twelve hours are further apart than the longest look-back
        (
            {"CANDLE_GRAN": "H12", "ECHO_LOOKBACK_MINUTES": "1440"},
            ["nothing will be eligible; set SESSION_PATTERN_MIN_OCCURRENCES=1"],
        ),
    ],
)
def test_a_look_back_that_does_not_fit_is_said(env: dict[str, str], said: list[str]) -> None:
    found = lookback_problems(Config.from_env(env))
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found, strict=True))
    possible = all("ECHO_LOOKBACK_MINUTES=2880" not in problem for problem in found)
    assert possible, "1440 is the most"


def test_few_open_sessions_are_no_failure() -> None:
    evening = ms("2024-03-06T23:00")  # 18:00 New York: only Tokyo is about to open
    facts = healthy(evening)
    few = part(facts, "log", epochs=(epoch(evening, 0, 0),))
    assert signal("eligible_few", few, evening).state == "quiet"
    always = Config(session_trading_enabled=False)
    assert signal("eligible_few", few, evening, always).state == "warn"


def test_what_a_deployment_does_not_have_is_quiet() -> None:
    facts = healthy(executor=None, feed=None, unused=frozenset({"executor", "feed"}))
    found = {one.name: one.state for one in failure_signals(facts, OPEN, Config())}
    quiet = {"stream_silent", "oanda_errors", "executor_stale", "closing_blocked", "margin_high"}
    assert {name for name, state in found.items() if state == "quiet"} == quiet


def test_the_checklist_waits_for_weights_every_minute() -> None:
    gap = with_epochs(*(epoch(OPEN - n * MINUTE_MS) for n in (5, 4, 2, 1, 0)))
    weights = {c.name: c for c in preflight(gap, OPEN, Config())}["weights"]
    assert weights.state == "fail"
    assert "gaps of up to 120 s" in weights.detail


def test_the_checklist_bears_a_quiet_minute() -> None:
    quiet = part(healthy(), "valkey", manifolds={p: MirroredManifold(OPEN - 98_000) for p in PAIRS})
    assert ready(preflight(quiet, OPEN, Config()))
