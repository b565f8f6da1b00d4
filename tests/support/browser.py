"""A headless browser for the tests of the page, and what it can be asked about any page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:  # tests that need no browser do not need its package either
    from playwright.sync_api import Browser, BrowserContext, Page

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
CHECKS = (Path(__file__).parent / "page_checks.js").read_text()


class Watched:
    """A page of a browser, and everything it did that a page of ours must not do.

    Attributes
    ----------
    page
        Playwright's page.
    errors
        Console errors, exceptions, and violations of the content security policy.
    requests
        Addresses of all requests and WebSockets.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda said: self._said(said.type, said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI))"
        )

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)

    def open(self, url: str, link: str = "live") -> None:
        """Go there and wait until the page says that it is live (or in another state)."""
        self.page.goto(url)
        self.until(link)

    def until(self, link: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the page is ``live``, ``lost`` or ``opening``."""
        self.page.wait_for_selector(f"html[data-link={link}]", timeout=timeout_s * 1000)

    def wait(self, expression: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until a JavaScript expression is true; from outside, as the page allows no eval."""
        self.until_true(lambda: bool(self.page.evaluate(expression)), timeout_s, expression)

    def until_true(
        self, found: Callable[[], bool], timeout_s: float = PATIENCE_S, what: str = "it"
    ) -> None:
        """Wait, while the browser goes on, until something is so."""
        end = time.monotonic() + timeout_s
        while not found():
            if time.monotonic() > end:
                raise AssertionError(f"not within {timeout_s} s: {what}")
            self.page.wait_for_timeout(30)

    def text(self, selector: str) -> str:
        """Return the text of an element as it is shown."""
        return self.page.locator(selector).inner_text()

    def row(self, instrument: str) -> str:
        """Return the text of an instrument's row."""
        return self.text(f'tr:has(a[href="#instrument={instrument}"])')

    def checked(self, name: str) -> Any:
        """Return what a check of ``page_checks.js`` finds; an empty list is good."""
        return self.page.evaluate(f"() => {{ {CHECKS}; return {name}(); }}")

    def unnamed(self) -> list[str]:
        """Return the controls that have no name for who cannot see them."""
        session = self.page.context.new_cdp_session(self.page)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "link", "textbox", "combobox", "slider", "DisclosureTriangle", "table"}
        roles |= {"dialog", "region", "navigation", "img"}
        return [
            f"{node['role']['value']} {node.get('backendDOMNodeId')}"
            for node in nodes
            if not node.get("ignored")
            and node.get("role", {}).get("value") in roles
            and not str(node.get("name", {}).get("value", "")).strip()
        ]


@contextlib.contextmanager
def browser(path: str) -> Iterator[Callable[..., Watched]]:
    """Run a browser; what is given makes a watched page with options of a context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running: Browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        contexts: list[BrowserContext] = []

        def new(**options: Any) -> Watched:
            context = running.new_context(**({"viewport": WIDE} | options))
            contexts.append(context)
            context.set_default_timeout(PATIENCE_S * 1000)
            return Watched(context.new_page())

        yield new
        for context in contexts:
            context.close()
        running.close()
