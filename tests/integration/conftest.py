"""Fixtures of the page's tests: a browser for each module, a live page for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.browser import Watched, browser
from tests.support.page_server import PageServer
from tests.support.page_states import PAIR

Open = Callable[..., Watched]


@pytest.fixture(scope="module")
def new_page(chromium: str) -> Iterator[Open]:
    with browser(chromium) as new:
        yield new


@pytest.fixture
def page_server() -> Iterator[PageServer]:
    running = PageServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def live_page(page_server: PageServer, new_page: Open) -> Iterator[Watched]:
    """The page, live, with an instrument chosen."""
    watched = new_page()
    watched.open(f"{page_server.url}#instrument={PAIR}")
    # the state is loaded at the start and once more when the subscription stands
    watched.until_true(lambda: page_server.asked.count("GET /api/global-status") == 2)
    watched.page.wait_for_timeout(50)
    yield watched
    watched.page.context.close()
