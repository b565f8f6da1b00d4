"""Pauses, the breaker, OANDA's clock, and the settings that keep the token and the account safe."""

from __future__ import annotations

from typing import Any

import pytest

from streams.config.oanda import Oanda
from streams.errors import Fatal, Recoverable
from streams.oanda.client import OandaClient, rfc3339
from streams.oanda.clock import BrokerClock
from streams.oanda.errors import (
    AccessRefused,
    AnswerLost,
    NotAsDescribed,
    NotSent,
    OrderRefused,
    RateLimited,
    RequestRefused,
    Unavailable,
)
from streams.oanda.limits import Breaker, Pace, pause_s, retry_after_s
from tests.support.oanda_raw import TOKEN

START_MS = 1_709_553_600_000


def test_instants_are_given_out_at_a_distance_after_a_burst() -> None:
    pace = Pace(0.1, burst=3)
    assert [round(pace.wait_s(100.0), 3) for _ in range(6)] == [0, 0, 0, 0.1, 0.2, 0.3]
    assert pace.wait_s(200.0) == 0
    pace.hold(210.0)
    assert round(pace.left_s(201.0), 3) == 9, "which takes nothing"
    assert round(pace.wait_s(201.0), 3) == 9


def test_pauses_grow_are_jittered_and_are_never_shorter_than_asked() -> None:
    for attempt in (1, 2, 3):
        pauses = [pause_s(1.5, attempt) for _ in range(200)]
        assert 1.5**attempt <= min(pauses) < max(pauses) <= 1.25 * 1.5**attempt
        assert len(set(pauses)) > 100
    assert pause_s(1.5, 1, 9.0) == 9.0
    assert pause_s(1.5, 10_000) <= 75


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("3", 3, 3), (" 3 ", 3, 3), (None, None, None), ("soon", None, None), ("-1", None, None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0)],
)  # fmt: skip
def test_retry_after(header: str | None, least: float | None, most: float | None) -> None:
    found = retry_after_s(header)
    assert found == least == most


def test_the_breaker_lets_one_through_at_a_time() -> None:
    breaker = Breaker(2, 30.0)
    breaker.failed(0.0)
    assert breaker.left_s(0.0) == 0
    breaker.failed(1.0)
    assert breaker.left_s(2.0) == 29
    assert breaker.left_s(31.0) == 0
    assert breaker.left_s(31.0) == 30
    breaker.succeeded()
    assert breaker.left_s(31.0) == 0
    breaker.failed(32.0)
    assert not breaker.open


def test_the_clock_believes_the_last_when_a_clock_was_set() -> None:
    clock = BrokerClock(lambda: 0)
    clock.note("Mon, 04 Mar 2024 12:00:00 GMT", START_MS, START_MS + 10)
    assert clock.server_ms(5) == 5 + round(clock.skew_ms or 0)
    assert abs((clock.skew_ms or 0) - 495) < 1
    clock.note("Mon, 04 Mar 2024 13:00:00 GMT", START_MS + 1_000, START_MS + 1_010)
    assert abs((clock.skew_ms or 0) - 3_599_495) < 2
    for date in ("", None, "yesterday", "Mon, 99 Mar 2024 12:00:00 GMT"):
        clock.note(date, START_MS, START_MS)
    assert abs((clock.skew_ms or 0) - 3_599_495) < 2


def test_heartbeats_tell_the_clock_more_closely() -> None:
    clock = BrokerClock(lambda: 0)
    clock.note_beat(START_MS, START_MS)
    assert clock.skew_ms is None, "no answer has said anything yet"
    clock.note("Mon, 04 Mar 2024 12:00:00 GMT", START_MS + 500, START_MS + 510)
    clock.note_beat(START_MS + 2_390, START_MS + 2_100)
    assert (clock.skew_ms, clock.uncertainty_ms) == (290, 210)
    clock.note_beat(START_MS + 3_000, START_MS + 3_900)
    assert clock.skew_ms == 290, "one that was held up says nothing"
    clock.note_beat(START_MS + 90_000, START_MS)
    assert clock.skew_ms is None, "a clock was set: the next answer says more"


def test_times_are_written_as_oanda_does() -> None:
    assert rfc3339(START_MS + 7) == "2024-03-04T12:00:00.007000000Z"


ACCESS = {"OANDA_API_KEY": TOKEN, "OANDA_ACCOUNT_ID": "101-001-1-001"}


def test_practice_is_the_default_and_live_needs_two_words() -> None:
    made = Oanda.from_env(ACCESS)
    assert made.base_url == "https://api-fxpractice.oanda.com"
    assert made.stream_url == "https://stream-fxpractice.oanda.com"
    with pytest.raises(Fatal, match="LIVE_TRADING_ENABLED"):
        Oanda.from_env(ACCESS | {"OANDA_ENVIRONMENT": "live"})
    both = Oanda.from_env(ACCESS | {"OANDA_ENVIRONMENT": "live", "LIVE_TRADING_ENABLED": "1"})
    assert both.base_url == "https://api-fxtrade.oanda.com"


@pytest.mark.parametrize(
    "wrong",
    [
        {"OANDA_BASE_URL": "https://api-fxtrade.oanda.com"},
        {"OANDA_BASE_URL": "https://API-FXTRADE.oanda.com./v3"},
        {"OANDA_STREAM_URL": "https://stream-fxtrade.oanda.com:443"},
        {"OANDA_BASE_URL": "https://stream-fxtrade.oanda.com", "LIVE_TRADING_ENABLED": "1"},
        {
            "OANDA_BASE_URL": "https://api-fxpractice.oanda.com",
            "OANDA_ENVIRONMENT": "live",
            "LIVE_TRADING_ENABLED": "1",
        },
        {"OANDA_BASE_URL": "http://api-fxpractice.oanda.com"},
        {"OANDA_BASE_URL": "http://10.0.0.1:8080"},
        {"OANDA_BASE_URL": "http://127.0.0.1.example.com"},
        {"OANDA_BASE_URL": f"https://x:{TOKEN}@example.com"},
        {"OANDA_BASE_URL": f"https://example.com/?token={TOKEN}"},
        {"OANDA_BASE_URL": "ftp://example.com"},
        {"OANDA_BASE_URL": "https://"},
        {"OANDA_BASE_URL": "https://[::1"},
        {"OANDA_BASE_URL": "https://a:999999"},
        {"OANDA_API_KEY": f"{TOKEN}\nX-Header: 1"},
        {"OANDA_API_KEY": f"Bearer {TOKEN}"},
        {"OANDA_ACCOUNT_ID": "../../v3/accounts"},
        {"OANDA_ENVIRONMENT": "demo"},
    ],
    ids=str,
)
def test_settings_that_are_unsafe_are_refused_by_name_and_without_the_token(
    wrong: dict[str, str],
) -> None:
    with pytest.raises(Fatal, match="OANDA_") as raised:
        Oanda.from_env(ACCESS | wrong)
    assert TOKEN not in str(raised.value)
    assert raised.value.__context__ is None or TOKEN not in str(raised.value.__context__)


def test_the_token_is_in_no_repr_and_may_come_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    made = Oanda.from_env({"OANDA_API_KEY_FILE": str(path), "OANDA_ACCOUNT_ID": "1-2-3-4"})
    assert made.oanda_api_key == TOKEN
    assert TOKEN not in repr(made) + str(made.table())
    assert TOKEN not in repr(OandaClient(made))


@pytest.mark.parametrize("missing", ["OANDA_API_KEY", "OANDA_ACCOUNT_ID"])
def test_no_client_without_token_and_account(missing: str) -> None:
    made = Oanda.from_env(ACCESS | {missing: ""})
    with pytest.raises(Fatal, match=missing):
        OandaClient(made)


def test_the_errors_are_of_the_two_roots() -> None:
    for kind in (Unavailable, RateLimited, NotAsDescribed, NotSent, AnswerLost, OrderRefused):
        assert issubclass(kind, Recoverable)
    for kind in (RequestRefused, AccessRefused):
        assert issubclass(kind, Fatal)
