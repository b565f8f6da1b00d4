"""The page of the real service, on a real log and a real Valkey."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.records.events import Control
from streams.records.topics import CONTROL
from streams.stack.kafka import KafkaBroker
from tests.support.browser import Watched
from tests.support.candle_files import market, write_csv
from tests.support.deployment import LIVELY, Deployment
from tests.support.service import TOKEN, ServiceProcess

pytestmark = pytest.mark.kafka

PAIRS = ("EUR_USD", "USD_JPY")
BARS = 200


def test_the_page_shows_the_service_lives_with_it_and_works_the_kill_switch(
    new_page: Callable[..., Watched],
    kafka: KafkaBroker,
    valkey_url: str,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    deployment = Deployment(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap,
        TOPIC_PREFIX=topic_prefix,
        TOPIC_PARTITIONS="2",
        VALKEY_URL=valkey_url,
        HOTBAND_PAIRS=",".join(PAIRS),
        **LIVELY,
    )
    candles = market(PAIRS, BARS + 20)
    older = [one for one in candles if one.bar_ms < candles[0].bar_ms + BARS * 60_000]
    watched = new_page()
    try:
        deployment.start_worker()
        deployment.start("mirror", "mirror")
        assert deployment.run("load", write_csv(tmp_path / "a.csv", older)).returncode == 0
        deployment.settle()
        service = ServiceProcess(deployment)
        service.start()
        watched.open(f"http://127.0.0.1:{service.ports['API_PORT']}/#instrument=EUR_USD")
        page = watched.page

        # what it shows is what the service says
        status = service.get("/api/global-status").json
        decided = {one["instrument"]: one["gate"] for one in status["instruments"]}
        assert sorted(decided) == sorted(PAIRS)
        for pair, gate in decided.items():
            shown = watched.row(pair)
            assert ("no: " in shown) == (not gate["eligible"])
            assert (
                len(gate["reasons"])
                == page.locator(f'tr:has(a[href="#instrument={pair}"]) .chips li').count()
            )
        for reason in decided["EUR_USD"]["reasons"]:
            assert reason["text"] in watched.text("#gate-body")
        assert watched.text("#kill-word") == "engaged"
        assert "Kill switch engaged: " in watched.text("#verdict-why")
        watched.wait("document.querySelectorAll('#steps li').length >= 8")
        slider = "document.querySelector('#charts [role=slider]')"
        watched.wait(f"Number({slider}.getAttribute('aria-valuemax')) > 20")
        bars = int(page.evaluate(f"{slider}.getAttribute('aria-valuemax')"))

        # further candles arrive by themselves
        newer = [one for one in candles if one not in older]
        assert deployment.run("load", write_csv(tmp_path / "b.csv", newer)).returncode == 0
        watched.wait(f"Number({slider}.getAttribute('aria-valuemax')) > {bars}")
        mid = f"{[c for c in newer if c.instrument == 'EUR_USD'][-1].mid.close:.5f}"
        watched.until_true(lambda: mid in watched.row("EUR_USD"), 30, mid)

        # the switch: off by hand, and what the log has of it
        page.click("#kill-open")
        page.fill("#kill-reason", "all checks passed")
        page.fill("#kill-actor", "desk")
        page.fill("#kill-typed", page.inner_text("#kill-phrase"))
        page.fill("#kill-token", TOKEN)
        page.click("#kill-submit")
        watched.until_true(
            lambda: (
                page.get_attribute("#kill", "data-state") == "off"
                or bool(page.inner_text("#kill-error"))
            ),
            20,
        )
        words = [one for one in deployment.events(CONTROL) if isinstance(one, Control)]
        assert (words[-1].kind, words[-1].actor) == ("kill_switch", "desk")
        assert words[-1].reason == "all checks passed"
        if page.locator("#kill-dialog").is_visible():  # something else still says no: it is told
            assert "still engaged" in page.inner_text("#kill-error")
            page.keyboard.press("Escape")
        assert watched.errors == []

        # killed: it looks stale; started again: it is live again, by itself
        os.kill(deployment.processes["serve"].child.pid, signal.SIGKILL)
        watched.until("lost")
        assert watched.text("#verdict-title") == "Unknown: the connection is lost"
        service.wait_until(lambda: service.healthy)
        watched.until("live")
        assert TOKEN not in "".join(watched.requests)
    finally:
        watched.page.context.close()
        deployment.stop()
