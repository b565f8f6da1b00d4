"""The page without a mouse, without sight, on a telephone; and the kill switch by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import NARROW, WIDE, Watched
from tests.support.page_server import MINUTE_MS, TOKEN, PageServer, last_bar, now_ms
from tests.support.page_states import PAIR, STATES, figures_at

Open = Callable[..., Watched]


# -- the kill switch -------------------------------------------------------------------------------


def tab_to(page: Any, selector: str) -> None:
    for _ in range(60):
        if page.evaluate("(s) => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached with Tab")


def test_the_kill_switch_is_engaged_and_disengaged_with_the_keyboard_alone(
    page_server: PageServer, live_page: Watched
) -> None:
    page, keys = live_page.page, live_page.page.keyboard
    tab_to(page, "#kill-open")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.id") == "kill-reason"
    keys.press("Enter")
    assert "Give a reason" in live_page.text("#kill-error")
    keys.type("orders look wrong")
    keys.press("Enter")
    live_page.wait("document.querySelector('#kill-error').textContent.includes('token')")
    assert page_server.bodies == []
    assert page.evaluate("document.activeElement.id") == "kill-token"
    keys.type(TOKEN)
    keys.press("Enter")
    page.wait_for_selector("#kill[data-state=on]")
    assert page.evaluate("document.activeElement.id") == "kill-open"
    headers, body = page_server.bodies[-1]
    assert body == {"kill_switch": True, "reason": "orders look wrong"}
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert page.inner_text("#live-kill") == "Kill switch engaged: orders look wrong."
    assert live_page.text("#verdict-title") == "Trading is stopped; everything else is fine"

    keys.press("Enter")
    assert live_page.text("#kill-title") == "Disengage the kill switch"
    assert "Orders will go to paper (paper), account paper-1." in live_page.text("#kill-say")
    keys.type("checked")
    keys.press("Enter")
    assert "disengage paper" in live_page.text("#kill-error") and len(page_server.bodies) == 1
    assert page.evaluate("document.activeElement.id") == "kill-typed"
    keys.type("disengage paper")
    keys.press("Enter")
    page.wait_for_selector("#kill[data-state=off]")
    assert page_server.bodies[-1][1] == {"kill_switch": False, "reason": "checked"}
    assert page.inner_text("#live-kill") == "Kill switch off: trading is allowed."
    assert not any(TOKEN in url for url in live_page.requests)
    assert all("401" in error for error in live_page.errors)

    keys.press("Enter")
    keys.press("Escape")
    assert page.evaluate("document.querySelector('dialog').open") is False
    assert page.evaluate("document.activeElement.id") == "kill-open"


def test_disengaging_needs_a_token_and_a_switch_that_stays_engaged_is_not_hidden(
    page_server: PageServer, new_page: Open
) -> None:
    page_server.state["kill_switch"] |= {"engaged": True, "why": ["ops:kill_switch is 1"]}
    watched = new_page()
    watched.open(page_server.url)
    watched.page.click("#kill-open")
    watched.page.fill("#kill-reason", "checked")
    watched.page.fill("#kill-typed", "disengage paper")
    watched.page.click("#kill-submit")
    assert "needs the API token" in watched.text("#kill-error")
    assert page_server.bodies == []
    page_server.answer_to_kill = {"kill_switch": True, "why": ["ops:kill_switch is 1"]}
    watched.page.fill("#kill-token", TOKEN)
    watched.page.click("#kill-submit")
    watched.wait("document.querySelector('#kill-error').textContent.includes('still engaged')")
    assert "ops:kill_switch is 1" in watched.text("#kill-error")
    assert watched.page.locator("#kill-dialog").is_visible()
    watched.page.context.close()


@pytest.mark.parametrize("found", [None, {}, {"engaged": None, "why": []}])
def test_a_switch_that_cannot_be_read_counts_as_engaged(
    page_server: PageServer, new_page: Open, found: Any
) -> None:
    page_server.state["kill_switch"] = found
    watched = new_page()
    watched.open(page_server.url)
    assert watched.page.locator("#kill").get_attribute("data-state") == "on"
    assert "cannot be read, so it counts as engaged" in watched.text("#verdict-why")
    assert watched.text("#kill-open") == "Stop trading"
    watched.page.context.close()


def test_stopping_is_one_click_away_at_390_pixels_wherever_one_is(
    page_server: PageServer, new_page: Open
) -> None:
    watched = new_page(viewport=NARROW, has_touch=True)
    watched.open(page_server.url)
    page = watched.page
    for part in (0, 0.5, 1):
        page.evaluate("(part) => scrollTo(0, part * document.body.scrollHeight)", part)
        box = page.locator("#kill-open").bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] < 200 and box["height"] >= 34
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.locator("#kill-dialog").is_visible()
        assert watched.checked("overflow") == []
        page.keyboard.press("Escape")
    page_server.stop()
    watched.until("lost")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("#kill-open").click()
    page.fill("#kill-reason", "it does not answer")
    page.click("#kill-submit")
    watched.wait("document.querySelector('#kill-error').textContent.length > 0")
    assert "manifold kill on --reason" in watched.text("#kill-error")
    watched.page.context.close()


# -- for everybody ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATES)
def test_it_fits_reads_and_names_everything_in_every_state(new_page: Open, name: str) -> None:
    server, watched = PageServer(STATES[name]()), new_page()
    server.start()
    page = watched.page
    try:
        watched.open(f"{server.url}#instrument={PAIR}")
        if name != "empty":
            page.wait_for_selector("#charts path.line[d^=M]")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        for size in (WIDE, NARROW):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            page.wait_for_timeout(60)
            assert watched.checked("overflow") == []
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                assert watched.checked("contrast") == []
        for check in ("headings", "tables", "references", "landmarks"):
            assert watched.checked(check) == [], check
        assert watched.unnamed() == []
        page.click("#kill-open")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert watched.checked("contrast") == []
        assert watched.unnamed() == []
        assert [said for said in watched.errors if name != "empty" or "404" not in said] == []
    finally:
        page.context.close()
        server.stop()


def test_the_checks_find_what_they_are_there_for(live_page: Watched) -> None:
    bad = """<h5>too deep</h5><button></button><p id=faint>faint words</p>
      <label for=nowhere>x</label><div id=far>far</div><div role=status>said aloud</div>
      <b id=faint></b><table><thead><tr><th>a</th></tr></thead>
      <tbody><tr><td>1</td></tr></tbody></table>"""
    live_page.page.evaluate(
        """(bad) => {
          document.querySelector("main").insertAdjacentHTML("beforeend", bad);
          document.querySelector("#faint").style.color = "#999";
          document.querySelector("#far").style.cssText = "width:3000px;background:#fff";
        }""",
        bad,
    )
    for check in ("headings", "references", "landmarks", "contrast", "overflow"):
        assert live_page.checked(check), check
    assert any("faint words" in said for said in live_page.checked("contrast"))
    assert any("twice" in said for said in live_page.checked("references"))
    assert any(said.startswith("button") for said in live_page.unnamed())
    live_page.page.evaluate("document.querySelector('main > table').createCaption()")
    assert len(live_page.checked("tables")) >= 3


def test_tab_leads_through_everything_with_a_visible_focus(live_page: Watched) -> None:
    page = live_page.page
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


def test_the_skip_link_and_an_instruments_link_lead_there(live_page: Watched) -> None:
    page = live_page.page
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.click('a[href="#instrument=GBP_JPY"]')
    live_page.wait("document.querySelector('#instrument-h').textContent.includes('GBP/JPY')")
    assert page.evaluate("document.activeElement.id") == "instrument-h"
    assert page.locator("#chosen").input_value() == "GBP_JPY"
    page.wait_for_selector("#charts path.line[d^=M]")
    page.select_option("#chosen", "AUD_CAD")
    live_page.wait("document.querySelector('#instrument-h').textContent.includes('AUD/CAD')")
    assert page.url.endswith("#instrument=AUD_CAD")


def test_charts_answer_to_keys_and_pointer_grow_live_and_have_a_table(
    page_server: PageServer, live_page: Watched
) -> None:
    page = live_page.page
    page.wait_for_selector("#charts path.line[d^=M]")
    slider = page.locator("#charts [role=slider]")
    slider.focus()
    newest = slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowLeft")
    before = slider.get_attribute("aria-valuetext") or ""
    assert before != newest and re.search(r"Price [\d.]+, Coherence 0\.\d+, Stability", before)
    assert "1 min 0 s before the newest" in live_page.text(
        "#charts .read"
    ) or "1 min before" in live_page.text("#charts .read")
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
    page_server.emit("manifold", "manifold", figures_at(as_of, 1.5), PAIR)
    live_page.wait("document.querySelector('#charts tbody tr').textContent.includes('1.50000')")
    assert "0.424" in top.inner_text()
    assert "c0.42" in live_page.text("#gate-say")
    breaks = page.locator("#charts .panel.wide .gap").count()
    assert breaks >= 1, "a gap in the bars is drawn as one"


def test_light_and_dark_follow_the_system_until_one_is_chosen(
    page_server: PageServer, new_page: Open
) -> None:
    watched = new_page(color_scheme="dark")
    watched.open(page_server.url)
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
