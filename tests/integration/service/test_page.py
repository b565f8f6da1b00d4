"""The page in a real browser: what it shows, live and not live."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest

from tests.support.browser import Watched
from tests.support.page_server import MINUTE_MS, REASONS, TOKEN, PageServer, last_bar, now_ms, order
from tests.support.page_states import PAIR, STATES, decision, figures_at, one_of

Open = Callable[..., Watched]


# -- what is shown ---------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere_and_nothing_goes_wrong(
    page_server: PageServer, live_page: Watched
) -> None:
    live_page.page.wait_for_selector("#charts path.line[d^=M]")
    origin = page_server.url.rstrip("/")
    places = {re.sub(r"^ws:", "http:", url) for url in live_page.requests}
    assert all(url.startswith(origin) for url in places), places
    assert any(url.endswith("/ws") for url in places)
    assert live_page.errors == []


@pytest.mark.parametrize(
    ("name", "title", "words"),
    [
        ("calm", "Everything is fine", ()),
        (
            "stopped",
            "Trading is stopped; 2 problems and 3 warnings",
            ("Kill switch engaged", "too large orders", "by ops", "Difference to the broker"),
        ),
        (
            "empty",
            "Trading is stopped; 2 warnings",
            (
                "no kill switch record",
                "manifold warmup",
                "No failure signal has been evaluated yet",
            ),
        ),
        ("closed", "Everything is fine; the market is closed", ("(holiday)", "opens in 1 d 3 h")),
        ("synthetic", "Everything is fine", ("Synthetic market: trades at weekends",)),
    ],
)
def test_the_verdict_says_in_one_look_whether_all_is_fine_and_why_not(
    new_page: Open, name: str, title: str, words: tuple[str, ...]
) -> None:
    server, watched = PageServer(STATES[name]()), new_page()
    server.start()
    try:
        watched.open(server.url)
        assert watched.text("#verdict-title") == title
        for said in words:
            assert said in watched.text("#verdict-why")
        assert watched.errors == []
    finally:
        watched.page.context.close()
        server.stop()


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("signals", [], "No failure signal has been evaluated yet"),
        ("market", None, "does not report whether the market is open"),
        ("trading", None, "does not report the executor"),
        ("trading", {"executor": "stale", "detail": ""}, "The executor is stale"),
    ],
)
def test_what_is_not_told_is_not_taken_for_good_news(
    page_server: PageServer, new_page: Open, part: str, value: object, words: str
) -> None:
    page_server.state[part] = value
    watched = new_page()
    watched.open(page_server.url)
    assert "fine" not in watched.text("#verdict-title")
    assert words in watched.text("#verdict-why")
    assert watched.errors == []
    watched.page.context.close()


def test_signals_that_say_the_same_are_one_line_of_the_verdict(
    page_server: PageServer, new_page: Open
) -> None:
    away = {"state": "unknown", "detail": "the executor is unavailable: nothing answers"}
    for signal in page_server.state["signals"][4:7]:
        signal |= away
    watched = new_page()
    watched.open(page_server.url)
    assert watched.text("#verdict-title") == "1 warning"
    said = "kill switch long, order rejections, feed silent: the executor is unavailable"
    assert said in watched.text("#verdict-why")
    watched.page.context.close()


def test_an_instrument_tells_every_reason_its_value_its_limit_and_what_would_change_it(
    page_server: PageServer, live_page: Watched
) -> None:
    as_of = last_bar(now_ms()) + MINUTE_MS
    reasons = [
        {"reason": name, "value": value, "limit": limit, "text": text, "next_change_ms": as_of}
        for name, value, limit, text in REASONS
    ]
    page_server.emit("gate", "gates", decision(reasons, as_of), PAIR)
    live_page.page.wait_for_selector("#gate-body tbody tr >> nth=7")
    shown = live_page.text("#gate-body")
    for name, value, _, text in REASONS:
        assert text in shown
        if value is not None:
            assert f"{abs(value):.3f}" in shown or f"{abs(value):g}" in shown, name
    assert "at least 0.55" in shown and "at most 0.7" in shown
    row = live_page.row(PAIR)
    assert "no: 8 reasons" in row and "coherence 0.473 < 0.55" in row and "cooldown" in row
    live_page.page.click("#reasons summary")
    live_page.page.wait_for_selector("#reasons-body tbody tr")
    everyone = live_page.page.locator("#reasons-body tbody tr").count()
    others = (one for one in page_server.state["instruments"] if one["instrument"] != PAIR)
    assert everyone == 8 + sum(len(one["gate"]["reasons"]) for one in others)


def test_why_is_shown_from_candle_to_broker_and_asked_again_when_something_happens(
    page_server: PageServer, live_page: Watched
) -> None:
    steps = live_page.page.locator("#steps li")
    steps.first.wait_for()
    names = [steps.nth(at).locator("b").inner_text() for at in range(steps.count())]
    assert live_page.text("#why-say").startswith("EUR_USD stops at ")
    assert "To change it: look at manifold why." in live_page.text("#steps li[data-state=unknown]")
    assert names == ["candle", "signal", "gate", "weight", "kill switch", "executor"]
    as_of = last_bar(now_ms()) + MINUTE_MS
    one_of(page_server)["gate"] = decision([], as_of)
    page_server.emit("gate", "gates", one_of(page_server)["gate"], PAIR)
    live_page.wait("[...document.querySelectorAll('#steps li')][2].dataset.state === 'ok'")


def test_times_are_utc_with_the_readers_own_in_the_title(
    page_server: PageServer, new_page: Open
) -> None:
    watched = new_page(timezone_id="Asia/Tokyo")
    watched.open(page_server.url)
    title = watched.page.locator("tr td[data-fresh]").first.get_attribute("title") or ""
    found = re.fullmatch(
        r"\S+ (\d\d):(\d\d):\d\d UTC; here \S+ (\d\d):(\d\d):\d\d \(UTC\+09:00\)", title
    )
    assert found, title
    assert (int(found[3]) - int(found[1])) % 24 == 9
    watched.page.context.close()


def test_ages_go_by_the_servers_clock_not_by_the_browsers(
    page_server: PageServer, new_page: Open
) -> None:
    page_server.ahead_ms = 3_600_000
    for one in page_server.state["instruments"]:
        one["candle"]["as_of_ms"] = now_ms() + page_server.ahead_ms - 4_000
    watched = new_page()
    watched.open(page_server.url)
    age = watched.page.locator("tr td[data-fresh]").first
    first = int(age.inner_text().split()[0])
    assert 4 <= first <= 8
    watched.wait(f"parseInt(document.querySelector('td[data-fresh]').textContent) >= {first + 2}")
    watched.page.context.close()


def test_words_from_outside_are_text_and_never_markup(
    page_server: PageServer, new_page: Open
) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page_server.state["kill_switch"]["reason"] = hostile
    page_server.state["kill_switch"]["engaged"] = True
    page_server.state["signals"][0] |= {
        "state": "fail",
        "detail": hostile,
        "action": f"`{hostile}`",
    }
    page_server.state["orders"][0]["reason"] = hostile
    one_of(page_server)["gate"] = decision(
        [{"reason": hostile, "value": 1, "limit": 2, "text": hostile, "next_change_ms": None}], 1
    )
    watched = new_page()
    watched.open(f"{page_server.url}#instrument={PAIR}")
    watched.page.click("#kill-open")
    assert watched.page.locator("img, main script").count() == 0
    assert hostile in watched.text("#verdict-why") and hostile in watched.text("#kill-say")
    assert watched.errors == []
    watched.page.context.close()


# -- live ------------------------------------------------------------------------------------------


def test_events_change_the_page_without_another_request(
    page_server: PageServer, live_page: Watched
) -> None:
    asked = page_server.asked.count("GET /api/global-status")
    as_of = last_bar(now_ms()) + MINUTE_MS
    side = {"open": 1, "high": 1, "low": 1}
    candle = {
        "as_of_ms": as_of,
        "granularity": "M1",
        "mid": side | {"close": 1.23456},
        "bid": side | {"close": 1.2345},
        "ask": side | {"close": 1.2347},
    }
    page_server.emit("candle", "market", candle, PAIR)
    page_server.emit("gate", "gates", decision([], as_of), PAIR)
    entry = {"instrument": PAIR, "score": 0.61, "weight": 0.75, "target_exposure_pct": 0.2}
    weights = page_server.state["weights"] | {"epoch_ms": as_of, "entries": [entry]}
    page_server.emit("weights", "weights", weights)
    page_server.emit("order", "orders", order(77, PAIR, as_of, "intended"), PAIR)
    fill = {"order_id": f"{PAIR}-77", "status": "filled", "price": 1.23461, "reason": None}
    page_server.emit("fill", "orders", fill, PAIR)
    live_page.wait(
        "document.querySelector('#orders-body tbody tr').textContent.includes('1.23461')"
    )
    row = live_page.row(PAIR)
    for said in ("1.23456", "1.62", "eligible", "▼ short", "run ▲ long", "0.750", "20.0 %"):
        assert said in row, said
    assert "filled" in live_page.text("#orders-body tbody tr >> nth=0")
    assert "0.750" in live_page.text("#weights-body")
    # a late copy of something older changes nothing
    page_server.emit(
        "candle", "market", candle | {"as_of_ms": as_of - MINUTE_MS, "mid": None}, PAIR
    )
    page_server.emit("order", "orders", order(77, PAIR, as_of, "intended"), PAIR)
    page_server.emit("gate", "gates", decision([], as_of + MINUTE_MS) | {"score": None}, "CAD_CHF")
    live_page.wait("document.querySelectorAll('tr[data-gate=yes]').length > 0")
    assert "1.23456" in live_page.row(PAIR)
    assert live_page.text("#orders-body td.state >> nth=0") == "filled"
    assert page_server.asked.count("GET /api/global-status") == asked
    assert live_page.errors == []


def test_a_change_that_no_event_can_carry_loads_the_state_again(
    page_server: PageServer, live_page: Watched
) -> None:
    page_server.state["signals"][2] |= {
        "state": "fail",
        "detail": "no epoch for 400 s",
        "action": "look",
    }
    page_server.emit("status", "system", {"what": "signals"})
    live_page.page.wait_for_selector("#signals-body tr[data-state=fail]")
    assert "no epoch for 400 s" in live_page.text("#verdict-why")
    assert "allocator stale: fail, no epoch for 400 s" in live_page.page.inner_text("#live-signals")


def test_only_what_changed_is_written(page_server: PageServer, live_page: Watched) -> None:
    live_page.page.evaluate(
        """() => {
          window.writes = 0; window.kept = [...document.querySelectorAll("#instruments tbody tr")];
          document.querySelector("#instruments-body").firstChild.scrollLeft = 0;
          new MutationObserver((all) => { window.writes += all.length; }).observe(document.body,
            { subtree: true, childList: true, attributes: true, characterData: true });
          window.shift = 0;
          new PerformanceObserver((all) => {
            for (const one of all.getEntries()) window.shift += one.value;
          }).observe({ type: "layout-shift" });
        }"""
    )
    as_of = last_bar(now_ms()) + MINUTE_MS
    pairs = [one["instrument"] for one in page_server.state["instruments"]]
    assert len(pairs) == 28
    for pair in pairs:  # the same decision again, one bar later: only the bar's time is new
        kept = one_of(page_server, pair)["gate"] | {"as_of_ms": as_of}
        page_server.emit("gate", "gates", kept, pair)
    live_page.page.wait_for_timeout(300)
    unchanged = live_page.page.evaluate("window.writes")
    # every age may tick once: 28 candles and some more, and the times of change
    assert unchanged < 140, unchanged
    live_page.page.evaluate("window.writes = 0")
    for pair in pairs[:3]:
        page_server.emit("gate", "gates", decision([], as_of + MINUTE_MS), pair)
    live_page.page.wait_for_timeout(300)
    assert live_page.page.evaluate("window.writes") < 160
    rows = "document.querySelectorAll('#instruments tbody tr')"
    assert live_page.page.evaluate(f"window.kept.every((row, at) => row === {rows}[at])")
    assert live_page.page.evaluate("window.shift") < 0.02


# -- not live --------------------------------------------------------------------------------------


def test_a_dead_service_makes_the_page_look_stale_and_events_missed_are_made_up_for(
    page_server: PageServer, live_page: Watched
) -> None:
    as_of = last_bar(now_ms()) + MINUTE_MS
    page_server.emit("gate", "gates", decision([], as_of), PAIR)
    live_page.page.wait_for_selector(f'tr[data-gate=yes]:has(a[href="#instrument={PAIR}"])')
    page_server.stop()
    live_page.until("lost")
    assert live_page.text("#verdict-title") == "Unknown: the connection is lost"
    assert live_page.text("#kill-word") == "off when last seen"
    assert "Not live." in live_page.text("#lost")
    tiles = live_page.text("#tiles")
    assert "all 28 fresh" not in tiles and "the newest received" in tiles
    look = "getComputedStyle(document.querySelector('main')).filter"
    assert "grayscale" in live_page.page.evaluate(look)
    assert live_page.page.title().startswith("Unknown · Not live")
    assert live_page.checked("contrast") == []
    assert live_page.page.locator("#kill-open").inner_text() == "Stop trading"
    live_page.wait("/ago/.test(document.querySelector('#lost-words').textContent)")
    page_server.messages.clear()
    page_server.missed("manifold", "manifold", figures_at(as_of + MINUTE_MS, 1.5), PAIR)
    asked = len(page_server.asked)
    page_server.start()
    live_page.page.click("#lost-retry")
    live_page.until("live")
    subscribe = next(said for said in page_server.messages if said["type"] == "subscribe")
    assert subscribe["last_event_id"] == "test.gates-0-0"
    newest = "document.querySelector('#charts [role=slider]').getAttribute('aria-valuetext')"
    live_page.wait(f"{newest}.includes('Price 1.50000')")
    assert not any("history" in path for path in page_server.asked[asked:]), "told, not asked for"
    assert live_page.text("#kill-word") == "off"
    assert "grayscale" not in live_page.page.evaluate(look)


def test_it_reconnects_by_itself_and_where_it_cannot_resume_it_loads_everything(
    page_server: PageServer, live_page: Watched
) -> None:
    page_server.emit("gate", "gates", decision([], last_bar(now_ms()) + MINUTE_MS), PAIR)
    live_page.page.wait_for_selector(f'tr[data-gate=yes]:has(a[href="#instrument={PAIR}"])')
    page_server.resumable = False
    page_server.state = copy.deepcopy(page_server.state)
    page_server.state["lag"]["signals"] = 4321
    page_server.asked.clear()
    page_server.cut()
    live_page.wait("document.querySelector('#tiles').textContent.includes('4,321')")
    live_page.until("live")
    assert any(path.startswith("GET /api/manifold/history") for path in page_server.asked)
    assert "GET /ws" in page_server.asked


def test_a_connection_that_is_silent_counts_as_lost(
    page_server: PageServer, new_page: Open
) -> None:
    watched = new_page()
    watched.page.clock.install()
    watched.page.goto(page_server.url)
    watched.page.clock.run_for(500)
    watched.until("live")
    page_server.silent = True
    for _ in range(10):
        watched.page.clock.run_for(1_000)
    watched.until("lost")
    assert "No message came from the service." in watched.text("#lost")
    watched.page.context.close()


def test_an_answer_that_is_refused_makes_the_figures_old(
    page_server: PageServer, live_page: Watched
) -> None:
    page_server.refuse = (503, "the log cannot be followed: the broker is away")
    page_server.emit("status", "system", {})
    live_page.until("lost")
    assert "The log cannot be followed: the broker is away." in live_page.text("#lost")
    page_server.refuse = None
    live_page.until("live")
    assert live_page.text("#verdict-title") == "Everything is fine"


def test_where_reading_needs_a_token_the_page_asks_for_it_and_keeps_it_in_memory_only(
    page_server: PageServer, new_page: Open
) -> None:
    page_server.locked = True
    watched = new_page()
    watched.page.goto(page_server.url)
    watched.page.wait_for_selector("#locked:not([hidden])")
    watched.page.fill("#locked-token", TOKEN)
    watched.page.keyboard.press("Enter")
    watched.until("live")
    assert watched.page.locator("#locked").is_hidden()
    assert not any(TOKEN in url for url in watched.requests)
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert TOKEN not in watched.page.evaluate(stored)
    assert TOKEN not in watched.page.content()
    watched.page.context.close()
