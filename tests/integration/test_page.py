"""The page in a real browser: live, stale, stopped, narrow, dark, and without a mouse."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tests.browser import NARROW, WIDE, Watched, browser
from tests.page_server import (
    MINUTE_MS,
    REASONS,
    TOKEN,
    Json,
    PageServer,
    empty,
    gate,
    last_bar,
    now_ms,
    order,
    state,
)

Open = Callable[..., Watched]
PAIR = "EUR_USD"
LONG = "unusually_long_word_without_any_space_" * 6


@pytest.fixture(scope="module")
def new_page(chromium: str) -> Iterator[Open]:
    with browser(chromium) as new:
        yield new


@pytest.fixture
def server() -> Iterator[PageServer]:
    running = PageServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def live(server: PageServer, new_page: Open) -> Iterator[Watched]:
    """The page, live, with an instrument chosen."""
    watched = new_page()
    watched.open(f"{server.url}#instrument={PAIR}")
    # the state is loaded at the start and once more when the subscription stands
    watched.until_true(lambda: server.asked.count("GET /api/global-status") == 2)
    watched.page.wait_for_timeout(50)
    yield watched
    watched.page.context.close()


def one_of(server: PageServer, pair: str = PAIR) -> Json:
    found: Json = next(one for one in server.state["instruments"] if one["instrument"] == pair)
    return found


def decision(reasons: list[Json], as_of_ms: int) -> Json:
    """A decision later than what is shown."""
    made = gate(Random(1), as_of_ms, 0)
    return made | {"eligible": not reasons, "reasons": reasons, "direction": -1, "position": 1}


def figures_at(as_of_ms: int, price: float) -> Json:
    """A manifold as the WebSocket tells it."""
    return {
        "instrument": PAIR,
        "ts_ms": as_of_ms,
        "price": price,
        "metrics": {"coherence": 0.4242, "stability": 0.9, "entropy": 0.8, "rupture": 0.1},
        "coeffs": {"sigma_eff": 1e-4, "lambda": 0.02, "lambda_hazard": 0.1},
        "repetition": {"signature": "c0.42", "count_1h": 2, "first_seen_ms": 1},
    }


def stopped() -> Json:
    """Everything at once: stopped, failing, unreconciled, with long words and hostile ones."""
    made, now = state(), now_ms()
    made["kill_switch"] = {
        "engaged": True,
        "why": ["the log says so"],
        "since_ms": now - 420_000,
        "actor": "ops",
        "reason": f"too large orders {LONG}",
    }
    for at, (name, text) in enumerate(
        (("fail", LONG), ("warn", "two rejections"), ("unknown", ""))
    ):
        made["signals"][at] |= {"state": name, "detail": text, "action": f"see `manifold {name}`"}
    made["trading"] |= {"reconciled": False, "differences": [f"EUR_USD: {LONG}"]}
    made["trading"]["blocked"] = {"GBP_USD": [LONG]}
    made["instruments"][1]["gate"] = gate(Random(2), now, len(REASONS))
    made["instruments"][2]["candle"]["as_of_ms"] -= 900_000
    made["orders"].insert(0, order(9, PAIR, now, "rejected") | {"reason": LONG})
    return made


def nulls() -> Json:
    """Null wherever the contract lets it be."""
    made = empty()
    made["instruments"] = [
        {"instrument": PAIR, "candle": None, "manifold": None, "gate": None, "weight": 0.0}
        | {"target_exposure_pct": 0.0, "position": None}
    ]
    made["trading"] = {"executor": "running", "detail": ""} | dict.fromkeys(
        ("ts_ms", "venue", "mode", "account", "positions", "joined", "reconciled", "blocked")
    )
    made["orders"] = [order(1, PAIR, now_ms(), "intended") | {"guards": []}]
    made["signals"] = [
        {"name": "gates", "state": "unknown", "detail": "", "since_ms": None, "action": ""}
    ]
    return made


def closed() -> Json:
    made = state()
    made["market"] |= {"open": False, "next_change_ms": now_ms() + 100_000_000}
    for one in made["instruments"]:
        one["candle"]["as_of_ms"] -= 86_400_000
    return made


STATES = {"calm": state, "stopped": stopped, "empty": empty, "nulls": nulls, "closed": closed}


# -- what is shown ---------------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere_and_nothing_goes_wrong(
    server: PageServer, live: Watched
) -> None:
    live.page.wait_for_selector("#charts path.line[d^=M]")
    origin = server.url.rstrip("/")
    places = {re.sub(r"^ws:", "http:", url) for url in live.requests}
    assert all(url.startswith(origin) for url in places), places
    assert any(url.endswith("/ws") for url in places)
    assert live.errors == []


@pytest.mark.parametrize(
    ("name", "title", "words"),
    [
        ("calm", "Everything is fine", ()),
        (
            "stopped",
            "Trading is stopped; 2 problems and 3 warnings",
            ("Kill switch engaged", "too large orders", "by ops", "Difference to the broker"),
        ),
        ("empty", "Trading is stopped; 1 warning", ("no kill switch record", "manifold warmup")),
        ("closed", "Everything is fine; the market is closed", ("opens in 1 d 3 h",)),
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


def test_an_instrument_tells_every_reason_its_value_its_limit_and_what_would_change_it(
    server: PageServer, live: Watched
) -> None:
    as_of = last_bar(now_ms()) + MINUTE_MS
    reasons = [
        {"reason": name, "value": value, "limit": limit, "text": text, "next_change_ms": as_of}
        for name, value, limit, text in REASONS
    ]
    server.emit("gate", "gates", decision(reasons, as_of), PAIR)
    live.page.wait_for_selector("#gate-body tbody tr >> nth=7")
    shown = live.text("#gate-body")
    for name, value, _, text in REASONS:
        assert text in shown
        if value is not None:
            assert f"{abs(value):.3f}" in shown or f"{abs(value):g}" in shown, name
    assert "at least 0.55" in shown and "at most 0.7" in shown
    row = live.row(PAIR)
    assert "no: 8 reasons" in row and "coherence 0.473 < 0.55" in row and "cooldown" in row
    live.page.click("#reasons summary")
    live.page.wait_for_selector("#reasons-body tbody tr")
    everyone = live.page.locator("#reasons-body tbody tr").count()
    others = (one for one in server.state["instruments"] if one["instrument"] != PAIR)
    assert everyone == 8 + sum(len(one["gate"]["reasons"]) for one in others)


def test_why_is_shown_from_candle_to_broker_and_asked_again_when_something_happens(
    server: PageServer, live: Watched
) -> None:
    steps = live.page.locator("#steps li")
    steps.first.wait_for()
    names = [steps.nth(at).locator("b").inner_text() for at in range(steps.count())]
    assert live.text("#why-say").startswith("EUR_USD stops at ")
    assert "To change it: look at manifold why." in live.text("#steps li[data-state=unknown]")
    assert names == ["candle", "signal", "gate", "weight", "kill switch", "executor"]
    as_of = last_bar(now_ms()) + MINUTE_MS
    one_of(server)["gate"] = decision([], as_of)
    server.emit("gate", "gates", one_of(server)["gate"], PAIR)
    live.wait("[...document.querySelectorAll('#steps li')][2].dataset.state === 'ok'")


def test_times_are_utc_with_the_readers_own_in_the_title(
    server: PageServer, new_page: Open
) -> None:
    watched = new_page(timezone_id="Asia/Tokyo")
    watched.open(server.url)
    title = watched.page.locator("tr td[data-fresh]").first.get_attribute("title") or ""
    found = re.fullmatch(r"\S+ (\d\d):(\d\d)\S* UTC; here \S+ (\d\d):(\d\d)\S* \S+", title)
    assert found, title
    assert (int(found[3]) - int(found[1])) % 24 == 9
    watched.page.context.close()


def test_ages_go_by_the_servers_clock_not_by_the_browsers(
    server: PageServer, new_page: Open
) -> None:
    server.ahead_ms = 3_600_000
    for one in server.state["instruments"]:
        one["candle"]["as_of_ms"] = now_ms() + server.ahead_ms - 4_000
    watched = new_page()
    watched.open(server.url)
    age = watched.page.locator("tr td[data-fresh]").first
    first = int(age.inner_text().split()[0])
    assert 4 <= first <= 8
    watched.wait(f"parseInt(document.querySelector('td[data-fresh]').textContent) >= {first + 2}")
    watched.page.context.close()


def test_words_from_outside_are_text_and_never_markup(server: PageServer, new_page: Open) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    server.state["kill_switch"]["reason"] = hostile
    server.state["kill_switch"]["engaged"] = True
    server.state["signals"][0] |= {"state": "fail", "detail": hostile, "action": f"`{hostile}`"}
    server.state["orders"][0]["reason"] = hostile
    one_of(server)["gate"] = decision(
        [{"reason": hostile, "value": 1, "limit": 2, "text": hostile, "next_change_ms": None}], 1
    )
    watched = new_page()
    watched.open(f"{server.url}#instrument={PAIR}")
    watched.page.click("#kill-open")
    assert watched.page.locator("img, main script").count() == 0
    assert hostile in watched.text("#verdict-why") and hostile in watched.text("#kill-say")
    assert watched.errors == []
    watched.page.context.close()


# -- live ------------------------------------------------------------------------------------------


def test_events_change_the_page_without_another_request(server: PageServer, live: Watched) -> None:
    asked = server.asked.count("GET /api/global-status")
    as_of = last_bar(now_ms()) + MINUTE_MS
    side = {"open": 1, "high": 1, "low": 1}
    candle = {
        "as_of_ms": as_of,
        "granularity": "M1",
        "mid": side | {"close": 1.23456},
        "bid": side | {"close": 1.2345},
        "ask": side | {"close": 1.2347},
    }
    server.emit("candle", "market", candle, PAIR)
    server.emit("gate", "gates", decision([], as_of), PAIR)
    entry = {"instrument": PAIR, "score": 0.61, "weight": 0.75, "target_exposure_pct": 0.2}
    weights = server.state["weights"] | {"epoch_ms": as_of, "entries": [entry]}
    server.emit("weights", "weights", weights)
    server.emit("order", "orders", order(77, PAIR, as_of, "intended"), PAIR)
    fill = {"order_id": f"{PAIR}-77", "status": "filled", "price": 1.23461, "reason": None}
    server.emit("fill", "orders", fill, PAIR)
    live.wait("document.querySelector('#orders-body td.state').textContent === 'filled'")
    row = live.row(PAIR)
    for said in ("1.23456", "1.62", "eligible", "▼ short", "run ▲ long", "0.750", "20.0 %"):
        assert said in row, said
    assert "1.23461" in live.text("#orders-body tbody tr >> nth=0")
    assert "0.750" in live.text("#weights-body")
    # a late copy of something older changes nothing
    server.emit("candle", "market", candle | {"as_of_ms": as_of - MINUTE_MS, "mid": None}, PAIR)
    server.emit("order", "orders", order(77, PAIR, as_of, "intended"), PAIR)
    server.emit("gate", "gates", decision([], as_of + MINUTE_MS) | {"score": None}, "CAD_CHF")
    live.wait("document.querySelectorAll('tr[data-gate=yes]').length > 0")
    assert "1.23456" in live.row(PAIR)
    assert live.text("#orders-body td.state >> nth=0") == "filled"
    assert server.asked.count("GET /api/global-status") == asked
    assert live.errors == []


def test_a_change_that_no_event_can_carry_loads_the_state_again(
    server: PageServer, live: Watched
) -> None:
    server.state["signals"][2] |= {
        "state": "fail",
        "detail": "no epoch for 400 s",
        "action": "look",
    }
    server.emit("status", "system", {"what": "signals"})
    live.page.wait_for_selector("#signals-body tr[data-state=fail]")
    assert "no epoch for 400 s" in live.text("#verdict-why")
    assert "allocator stale: fail, no epoch for 400 s" in live.page.inner_text("#live-signals")


def test_only_what_changed_is_written(server: PageServer, live: Watched) -> None:
    live.page.evaluate(
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
    pairs = [one["instrument"] for one in server.state["instruments"]]
    assert len(pairs) == 28
    for pair in pairs:  # the same decision again, one bar later: only the bar's time is new
        kept = one_of(server, pair)["gate"] | {"as_of_ms": as_of}
        server.emit("gate", "gates", kept, pair)
    live.page.wait_for_timeout(300)
    unchanged = live.page.evaluate("window.writes")
    # every age may tick once: 28 candles and some more, and the times of change
    assert unchanged < 140, unchanged
    live.page.evaluate("window.writes = 0")
    for pair in pairs[:3]:
        server.emit("gate", "gates", decision([], as_of + MINUTE_MS), pair)
    live.page.wait_for_timeout(300)
    assert live.page.evaluate("window.writes") < 160
    rows = "document.querySelectorAll('#instruments tbody tr')"
    assert live.page.evaluate(f"window.kept.every((row, at) => row === {rows}[at])")
    assert live.page.evaluate("window.shift") < 0.02


# -- not live --------------------------------------------------------------------------------------


def test_a_dead_service_makes_the_page_look_stale_and_events_missed_are_made_up_for(
    server: PageServer, live: Watched
) -> None:
    as_of = last_bar(now_ms()) + MINUTE_MS
    server.emit("gate", "gates", decision([], as_of), PAIR)
    live.page.wait_for_selector(f'tr[data-gate=yes]:has(a[href="#instrument={PAIR}"])')
    server.stop()
    live.until("lost", 5)
    assert live.text("#verdict-title") == "Unknown: the connection is lost"
    assert live.text("#kill-word") == "off when last seen"
    assert "Not live." in live.text("#lost")
    tiles = live.text("#tiles")
    assert "all 28 fresh" not in tiles and "the newest that was seen" in tiles
    look = "getComputedStyle(document.querySelector('main')).filter"
    assert "grayscale" in live.page.evaluate(look)
    assert live.page.title().startswith("Unknown · Not live")
    assert live.checked("contrast") == []
    assert live.page.locator("#kill-open").inner_text() == "Stop trading"
    live.wait("/ago/.test(document.querySelector('#lost-words').textContent)")
    server.messages.clear()
    server.missed("manifold", "manifold", figures_at(as_of + MINUTE_MS, 1.5), PAIR)
    asked = len(server.asked)
    server.start()
    live.page.click("#lost-retry")
    live.until("live", 8)
    subscribe = next(said for said in server.messages if said["type"] == "subscribe")
    assert subscribe["last_event_id"] == "test.gates-0-0"
    newest = "document.querySelector('#charts [role=slider]').getAttribute('aria-valuetext')"
    live.wait(f"{newest}.includes('Price 1.50000')")
    assert not any("history" in path for path in server.asked[asked:]), "told, not asked for"
    assert live.text("#kill-word") == "off"
    assert "grayscale" not in live.page.evaluate(look)


def test_it_reconnects_by_itself_and_where_it_cannot_resume_it_loads_everything(
    server: PageServer, live: Watched
) -> None:
    server.emit("gate", "gates", decision([], last_bar(now_ms()) + MINUTE_MS), PAIR)
    live.page.wait_for_selector(f'tr[data-gate=yes]:has(a[href="#instrument={PAIR}"])')
    server.resumable = False
    server.state = copy.deepcopy(server.state)
    server.state["lag"]["signals"] = 4321
    server.asked.clear()
    server.cut()
    live.wait("document.querySelector('#tiles').textContent.includes('4,321')")
    live.until("live")
    assert any(path.startswith("GET /api/manifold/history") for path in server.asked)
    assert "GET /ws" in server.asked


def test_a_connection_that_is_silent_counts_as_lost(server: PageServer, new_page: Open) -> None:
    watched = new_page()
    watched.page.clock.install()
    watched.page.goto(server.url)
    watched.page.clock.run_for(500)
    watched.until("live")
    server.silent = True
    for _ in range(10):
        watched.page.clock.run_for(1_000)
    watched.until("lost", 3)
    assert "Nothing was heard from the service." in watched.text("#lost")
    watched.page.context.close()


def test_an_answer_that_is_refused_makes_the_figures_old(server: PageServer, live: Watched) -> None:
    server.refuse = (503, "the log cannot be followed: the broker is away")
    server.emit("status", "system", {})
    live.until("lost", 4)
    assert "The log cannot be followed: the broker is away." in live.text("#lost")
    server.refuse = None
    live.until("live", 6)
    assert live.text("#verdict-title") == "Everything is fine"


def test_where_reading_needs_a_token_the_page_asks_for_it_and_keeps_it_in_memory_only(
    server: PageServer, new_page: Open
) -> None:
    server.locked = True
    watched = new_page()
    watched.page.goto(server.url)
    watched.page.wait_for_selector("#locked:not([hidden])")
    watched.page.fill("#locked-token", TOKEN)
    watched.page.keyboard.press("Enter")
    watched.until("live", 8)
    assert watched.page.locator("#locked").is_hidden()
    assert not any(TOKEN in url for url in watched.requests)
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    assert TOKEN not in watched.page.evaluate(stored)
    assert TOKEN not in watched.page.content()
    watched.page.context.close()


# -- the kill switch -------------------------------------------------------------------------------


def tab_to(page: Any, selector: str) -> None:
    for _ in range(60):
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with Tab")


def test_the_kill_switch_is_engaged_and_disengaged_with_the_keyboard_alone(
    server: PageServer, live: Watched
) -> None:
    page, keys = live.page, live.page.keyboard
    tab_to(page, "#kill-open")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "kill-reason"
    keys.press("Enter")
    assert "Say why" in live.text("#kill-error")
    keys.type("orders look wrong")
    keys.press("Enter")
    live.wait("document.querySelector('#kill-error').textContent.includes('token')")
    assert server.bodies == []
    assert page.evaluate("document.activeElement.id") == "kill-token"
    keys.type(TOKEN)
    keys.press("Enter")
    page.wait_for_selector("#kill[data-state=on]")
    assert page.evaluate("document.activeElement.id") == "kill-open"
    headers, body = server.bodies[-1]
    assert body == {"kill_switch": True, "reason": "orders look wrong"}
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert page.inner_text("#live-kill") == "Kill switch engaged: orders look wrong."
    assert live.text("#verdict-title") == "Trading is stopped; everything else is fine"

    keys.press("Enter")
    assert live.text("#kill-title") == "Disengage the kill switch"
    assert "Orders will go to paper (paper), account paper-1." in live.text("#kill-say")
    keys.type("checked")
    keys.press("Enter")
    assert "disengage paper" in live.text("#kill-error") and len(server.bodies) == 1
    assert page.evaluate("document.activeElement.id") == "kill-typed"
    keys.type("disengage paper")
    keys.press("Enter")
    page.wait_for_selector("#kill[data-state=off]")
    assert server.bodies[-1][1] == {"kill_switch": False, "reason": "checked"}
    assert page.inner_text("#live-kill") == "Kill switch off: trading is allowed."
    assert not any(TOKEN in url for url in live.requests)
    assert all("401" in error for error in live.errors)

    keys.press("Enter")
    keys.press("Escape")
    assert page.evaluate("document.querySelector('dialog').open") is False
    assert page.evaluate("document.activeElement.id") == "kill-open"


def test_disengaging_needs_a_token_and_a_switch_that_stays_engaged_is_not_hidden(
    server: PageServer, new_page: Open
) -> None:
    server.state["kill_switch"] |= {"engaged": True, "why": ["ops:kill_switch is 1"]}
    watched = new_page()
    watched.open(server.url)
    watched.page.click("#kill-open")
    watched.page.fill("#kill-reason", "checked")
    watched.page.fill("#kill-typed", "disengage paper")
    watched.page.click("#kill-submit")
    assert "needs the API token" in watched.text("#kill-error")
    assert server.bodies == []
    server.answer_to_kill = {"kill_switch": True, "why": ["ops:kill_switch is 1"]}
    watched.page.fill("#kill-token", TOKEN)
    watched.page.click("#kill-submit")
    watched.wait("document.querySelector('#kill-error').textContent.includes('still engaged')")
    assert "ops:kill_switch is 1" in watched.text("#kill-error")
    assert watched.page.locator("#kill-dialog").is_visible()
    watched.page.context.close()


@pytest.mark.parametrize("found", [None, {}, {"engaged": None, "why": []}])
def test_a_switch_that_cannot_be_read_counts_as_engaged(
    server: PageServer, new_page: Open, found: Any
) -> None:
    server.state["kill_switch"] = found
    watched = new_page()
    watched.open(server.url)
    assert watched.page.locator("#kill").get_attribute("data-state") == "on"
    assert "cannot be read, so it counts as engaged" in watched.text("#verdict-why")
    assert watched.text("#kill-open") == "Stop trading"
    watched.page.context.close()


def test_stopping_is_one_click_away_at_390_pixels_wherever_one_is(
    server: PageServer, new_page: Open
) -> None:
    watched = new_page(viewport=NARROW, has_touch=True)
    watched.open(server.url)
    page = watched.page
    for part in (0, 0.5, 1):
        page.evaluate("(part) => scrollTo(0, part * document.body.scrollHeight)", part)
        box = page.locator("#kill-open").bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] < 200 and box["height"] >= 34
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.locator("#kill-dialog").is_visible()
        assert watched.checked("overflow") == []
        page.keyboard.press("Escape")
    server.stop()
    watched.until("lost", 5)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#kill-open").click(timeout=2000)
    page.fill("#kill-reason", "it does not answer")
    page.click("#kill-submit")
    watched.wait("document.querySelector('#kill-error').textContent.length > 0")
    assert "manifold kill on --reason" in watched.text("#kill-error")
    watched.page.context.close()


# -- for everybody ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATES)
def test_it_fits_reads_and_names_everything_in_every_state(new_page: Open, name: str) -> None:
    server = PageServer(STATES[name]())
    server.start()
    try:
        for scheme in ("light", "dark"):
            watched = new_page(color_scheme=scheme, viewport=WIDE)
            chosen = f"#instrument={PAIR}" if name != "empty" else ""
            watched.open(server.url + chosen)
            if chosen:
                watched.page.wait_for_selector("#charts path.line[d^=M]")
            watched.page.evaluate(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            for size in (WIDE, NARROW):
                watched.page.set_viewport_size(size)  # type: ignore[arg-type]
                watched.page.wait_for_timeout(60)
                assert watched.checked("overflow") == []
                assert watched.checked("contrast") == []
            for check in ("headings", "tables", "references", "landmarks"):
                assert watched.checked(check) == [], check
            assert watched.unnamed() == []
            watched.page.click("#kill-open")
            assert watched.checked("contrast") == []
            assert watched.unnamed() == []
            assert watched.errors == []
            watched.page.context.close()
    finally:
        server.stop()


def test_the_checks_find_what_they_are_there_for(live: Watched) -> None:
    bad = """<h5>too deep</h5><button></button><p id=faint>faint words</p>
      <label for=nowhere>x</label><div id=far>far</div><div role=status>said aloud</div>
      <b id=faint></b><table><thead><tr><th>a</th></tr></thead>
      <tbody><tr><td>1</td></tr></tbody></table>"""
    live.page.evaluate(
        """(bad) => {
          document.querySelector("main").insertAdjacentHTML("beforeend", bad);
          document.querySelector("#faint").style.color = "#999";
          document.querySelector("#far").style.cssText = "width:3000px;background:#fff";
        }""",
        bad,
    )
    for check in ("headings", "references", "landmarks", "contrast", "overflow"):
        assert live.checked(check), check
    assert any("faint words" in said for said in live.checked("contrast"))
    assert any("twice" in said for said in live.checked("references"))
    assert any(said.startswith("button") for said in live.unnamed())
    live.page.evaluate("document.querySelector('main > table').createCaption()")
    assert len(live.checked("tables")) >= 3


def test_tab_leads_through_everything_with_a_visible_focus(live: Watched) -> None:
    page = live.page
    page.evaluate(
        "history.replaceState(null, '', '/'); document.activeElement.blur(); scrollTo(0, 0)"
    )
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
              return [at.tagName + "#" + at.id + at.className + (at.hash || ""),
                style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2]; }"""
        )
        if found[0].startswith("BODY"):
            break
        assert found[1], f"no visible focus at {found[0]}"
        seen.append(found[0])
    assert seen[0].startswith("A#skip")
    assert (
        seen.index("BUTTON#kill-openstop") < seen.index("SELECT#filter") < seen.index("SELECT#bars")
    )
    assert sum("#instrument=" in one for one in seen) == 28
    assert any("panels" in one for one in seen)


def test_the_skip_link_and_an_instruments_link_lead_there(live: Watched) -> None:
    page = live.page
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.click('a[href="#instrument=GBP_JPY"]')
    live.wait("document.querySelector('#instrument-h').textContent.includes('GBP/JPY')")
    assert page.evaluate("document.activeElement.id") == "instrument-h"
    assert page.locator("#chosen").input_value() == "GBP_JPY"
    page.wait_for_selector("#charts path.line[d^=M]")
    page.select_option("#chosen", "AUD_CAD")
    live.wait("document.querySelector('#instrument-h').textContent.includes('AUD/CAD')")
    assert page.url.endswith("#instrument=AUD_CAD")


def test_charts_answer_to_keys_and_pointer_grow_live_and_have_a_table(
    server: PageServer, live: Watched
) -> None:
    page = live.page
    page.wait_for_selector("#charts path.line[d^=M]")
    slider = page.locator("#charts [role=slider]")
    slider.focus()
    newest = slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowLeft")
    before = slider.get_attribute("aria-valuetext") or ""
    assert before != newest and re.search(r"Price [\d.]+, Coherence 0\.\d+, Stability", before)
    assert "1 min 0 s before the newest" in live.text(
        "#charts .read"
    ) or "1 min before" in live.text("#charts .read")
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax") == "239"
    page.locator("#charts .panel.wide svg").hover()  # in its middle
    assert 100 < int(slider.get_attribute("aria-valuenow") or 0) < 140

    page.click("#charts summary")
    top = page.locator("#charts tbody tr").first
    top.wait_for()
    assert page.locator("#charts tbody tr").count() == 120
    as_of = last_bar(now_ms()) + 5 * MINUTE_MS
    server.emit("manifold", "manifold", figures_at(as_of, 1.5), PAIR)
    live.wait("document.querySelector('#charts tbody tr').textContent.includes('1.50000')")
    assert "0.424" in top.inner_text()
    assert "c0.42" in live.text("#gate-say")
    breaks = page.locator("#charts .panel.wide .gap").count()
    assert breaks >= 1, "a gap in the bars is drawn as one"


def test_light_and_dark_follow_the_system_until_one_is_chosen(
    server: PageServer, new_page: Open
) -> None:
    watched = new_page(color_scheme="dark")
    watched.open(server.url)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = watched.page.evaluate(ground)
    watched.page.click("#theme")
    light = watched.page.evaluate(ground)
    assert dark != light and watched.text("#theme") == "Theme: light"
    watched.page.reload()
    watched.until("live")
    assert watched.page.evaluate(ground) == light
    watched.page.emulate_media(reduced_motion="reduce")
    motion = "getComputedStyle(document.documentElement).scrollBehavior"
    assert watched.page.evaluate(motion) == "auto"
    watched.page.context.close()
