"""Commands to the executor on the page: one instrument's pause, close and release, and a limit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import NARROW, WIDE, Watched
from tests.support.page_server import TOKEN, PageServer
from tests.support.page_states import PAIR

Open = Callable[..., Watched]


@pytest.fixture
def practice(page_server: PageServer) -> PageServer:
    """A server whose executor trades at OANDA and has joined a run of the pair."""
    page_server.state = copy.deepcopy(page_server.state)
    trading = page_server.state["trading"]
    trading |= {"mode": "practice", "venue": "oanda", "account_id": "101-001-1-001"}
    trading["joined"] = {PAIR: {"direction": 1, "entry_bar_ms": 1}}
    said = "the stop of trade 5 is 1.09, tighter by hand (the run's is 1.08635): it stays so"
    trading["by_hand"] = {PAIR: [said]}
    trading["waiting"] = {PAIR: ["close asked at 10:00 by bea: enough", "it waits for an order"]}
    return page_server


@pytest.fixture
def chosen(practice: PageServer, new_page: Open) -> Callable[..., Watched]:
    """Open the page at the pair."""

    def make(**options: object) -> Watched:
        watched = new_page(**options)
        watched.open(f"{practice.url}#instrument={PAIR}")
        watched.page.wait_for_selector("#commands:not([hidden])")
        return watched

    return make


def test_an_instrument_is_paused_and_resumed_with_reason_and_token(
    practice: PageServer, chosen: Callable[..., Watched]
) -> None:
    watched = chosen()
    page, keys = watched.page, watched.page.keyboard
    assert "tighter by hand" in watched.text("#operator")
    assert "Not carried out yet: close asked at 10:00 by bea" in watched.text("#operator")
    page.click("#command-pause")
    assert watched.text("#command-title") == "Pause EUR/USD"
    assert page.evaluate("document.activeElement.id") == "command-reason"
    keys.press("Enter")
    assert "Give a reason" in watched.text("#command-error")
    keys.type("central bank")
    keys.press("Enter")
    assert "needs the API token" in watched.text("#command-error")
    keys.type("wrong-wrong-wrong-wrong")
    keys.press("Enter")
    watched.wait("document.querySelector('#command-error').textContent.includes('needs the token')")
    assert practice.commands == []
    page.fill("#command-token", TOKEN)
    page.fill("#command-actor", "ann")
    page.click("#command-submit")
    watched.wait("document.querySelector('#command-pause').textContent === 'Resume…'")
    body = {"instrument": PAIR, "reason": "central bank", "actor": "ann"}
    assert practice.commands == [("pause", body)]
    assert "by ann: central bank" in watched.text("#operator")
    assert "paused" in watched.row(PAIR)
    assert page.evaluate("document.activeElement.id") == "command-pause"
    # the token is held for the next one
    page.click("#command-pause")
    assert watched.text("#command-title") == "Resume EUR/USD"
    page.fill("#command-reason", "it is out")
    page.click("#command-submit")
    watched.wait("document.querySelector('#command-pause').textContent === 'Pause…'")
    assert [command for command, _ in practice.commands] == ["pause", "resume"]
    assert not any(TOKEN in url for url in watched.requests)
    watched.page.context.close()


@pytest.mark.parametrize(
    ("button", "command"),
    [("close", "close"), ("release", "release"), ("reset", "limits/reset")],
)
def test_a_position_is_closed_or_released_and_the_drawdown_reset(
    practice: PageServer, chosen: Callable[..., Watched], button: str, command: str
) -> None:
    watched = chosen()
    watched.page.click(f"#command-{button}")
    watched.page.fill("#command-reason", "enough")
    watched.page.fill("#command-token", TOKEN)
    watched.page.click("#command-submit")
    watched.wait("!document.querySelector('#command-dialog').open")
    about = {"limit": "drawdown"} if button == "reset" else {"instrument": PAIR}
    assert practice.commands == [(command, about | {"reason": "enough"})]
    assert all("401" in error for error in watched.errors)
    watched.page.context.close()


def test_what_cannot_be_done_is_not_offered(page_server: PageServer, new_page: Open) -> None:
    page_server.state = copy.deepcopy(page_server.state)
    page_server.state["trading"]["joined"] = {}
    watched = new_page()
    watched.open(f"{page_server.url}#instrument={PAIR}")
    watched.page.wait_for_selector("#commands:not([hidden])")
    assert watched.page.locator("#command-release").is_hidden(), "it is the paper account"
    assert watched.page.locator("#command-close").is_disabled(), "nothing is held"
    page_server.state = copy.deepcopy(page_server.state)
    page_server.state["trading"] = {"executor": "absent", "detail": "none answers"}
    page_server.emit("status", "system", {})
    watched.wait("document.querySelector('#commands').hidden")
    assert watched.page.locator("#limits").is_hidden()
    watched.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1280", "390"])
def test_the_dialog_can_be_read_and_named_everywhere(
    chosen: Callable[..., Watched], tmp_path: Path, scheme: str, size: dict[str, int]
) -> None:
    watched = chosen(color_scheme=scheme, viewport=size)
    watched.page.locator("#commands").scroll_into_view_if_needed()
    watched.page.screenshot(path=str(tmp_path / "commands.png"))
    watched.page.click("#command-release")
    watched.page.screenshot(path=str(tmp_path / "dialog.png"))
    assert watched.checked("contrast") == []
    assert watched.checked("references") == []
    assert watched.unnamed() == []
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert watched.page.evaluate(wide)
    watched.page.context.close()
