"""``/metrics`` and ``/healthz`` of the OANDA feed."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.candles.calendar import Calendar
from streams.candles.market_clock import open_ms_between
from streams.config.status_ports import status_access
from streams.feeds.oanda_state import FeedState
from streams.instants import GRANULARITY_MS
from streams.kafka.decoding import InvalidRecordsCollector
from streams.oanda.metrics import OandaCollector
from streams.process.metrics import METRICS_TYPE
from streams.process.started import ProcessCollector
from streams.process.status_access import open_status_port
from streams.records.config_following import ConfigCollector

LATE_BARS = 3
"""An instrument this many bars of market hours behind is unhealthy."""
SKEW_LIMIT_S = 30.0


class FeedCollector(Collector):
    """Prometheus collector of the feed: what was written, and the newest prices."""

    def __init__(self, state: FeedState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        instrument = ["instrument"]
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        candles = counter("manifold_feed_candles", "Candles written", labels=instrument)
        revised = counter(
            "manifold_feed_revised_candles",
            "Candles that OANDA changed after they were written",
            labels=instrument,
        )
        late = counter(
            "manifold_feed_late_candles",
            "Candles that arrived after their bar was settled without one",
            labels=instrument,
        )
        not_waited = counter(
            "manifold_feed_not_waited_for",
            "Number of times that epochs stopped waiting for the instrument (EPOCH_MAX_WAIT_SEC)",
            labels=instrument,
        )
        newest = gauge(
            "manifold_feed_candle_as_of_seconds", "End of the newest candle", labels=instrument
        )
        settled = gauge(
            "manifold_feed_settled_seconds",
            "Event time up to which every candle is in the log",
            labels=instrument,
        )
        waiting = gauge(
            "manifold_feed_waiting", "1 while its requests are not answered", labels=instrument
        )
        for name, pair in sorted(self._state.pairs.items()):
            candles.add_metric([name], pair.candles)
            revised.add_metric([name], pair.revised)
            late.add_metric([name], pair.late)
            not_waited.add_metric([name], pair.not_waited)
            if pair.candle_as_of_ms >= 0:
                newest.add_metric([name], pair.candle_as_of_ms / 1000)
            settled.add_metric([name], pair.settled_ms / 1000)
            waiting.add_metric([name], float(self._state.feeds[name].trouble is not None))
        yield from (candles, revised, late, not_waited, newest, settled, waiting)
        yield counter("manifold_feed_watermarks", "Watermarks written", self._state.watermarks)
        yield from self._prices()

    def _prices(self) -> Iterator[Metric]:
        labels = ["instrument"]
        bid = GaugeMetricFamily("manifold_feed_bid", "Newest bid", labels=labels)
        ask = GaugeMetricFamily("manifold_feed_ask", "Newest ask", labels=labels)
        spread = GaugeMetricFamily(
            "manifold_feed_spread_bps", "Ask minus bid in bps of the middle", labels=labels
        )
        age = GaugeMetricFamily(
            "manifold_feed_price_age_seconds", "Age of the newest price", labels=labels
        )
        now_ms = self._state.client.now_ms()
        for name, price in sorted(self._state.prices.items()):
            bid.add_metric([name], price.bid)
            ask.add_metric([name], price.ask)
            spread.add_metric([name], price.spread_bps)
            age.add_metric([name], (now_ms - price.time_ms) / 1000)
        yield from (bid, ask, spread, age)


def feed_problems(
    state: FeedState, granularity: str, calendar: Calendar, silence_s: float
) -> dict[str, str]:
    """Return the problems: instrument, ``prices`` or ``clock`` -> reason.

    Parameters
    ----------
    granularity
        Bar length of the feed.
    calendar
        The hours of the market.
    silence_s
        OANDA_STREAM_SILENCE_SEC.
    """
    found: dict[str, str] = {}
    now_ms, length = state.client.now_ms(), GRANULARITY_MS[granularity]
    for name, pair in sorted(state.pairs.items()):
        behind_ms = open_ms_between(calendar, pair.settled_ms, now_ms)
        if behind_ms > LATE_BARS * length:
            trouble = state.feeds[name].trouble or "OANDA has not completed its bars"
            found[name] = f"{behind_ms / 1000:.0f} s behind: {trouble}"
    age_s = state.stream.health.age_s()
    if age_s is None or age_s > 2 * silence_s:
        found["prices"] = state.stream.health.trouble or "no line received yet"
    skew_ms = state.client.clock.skew_ms
    if skew_ms is not None and abs(skew_ms) > SKEW_LIMIT_S * 1000:
        found["clock"] = f"OANDA's clock minus this machine's is {skew_ms / 1000:.1f} s"
    return found


def make_feed_web(state: FeedState, granularity: str, calendar: Calendar) -> web.Application:
    """Return the web application with ``/metrics`` and ``/healthz``."""
    registry = CollectorRegistry()
    registry.register(FeedCollector(state))
    registry.register(ConfigCollector(state.followed))
    registry.register(InvalidRecordsCollector())
    registry.register(ProcessCollector())
    registry.register(OandaCollector(state.client, {"prices": state.stream.health}))
    silence_s = state.client.settings.oanda_stream_silence_sec

    async def show_metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def show_health(_: web.Request) -> web.Response:
        problems = feed_problems(state, granularity, calendar, silence_s)
        content = {"healthy": not problems, "unwell": problems} | state.report()
        return web.json_response(content, status=503 if problems else 200)

    application = web.Application()
    application.router.add_get("/metrics", show_metrics)
    application.router.add_get("/healthz", show_health)
    return application


async def serve_status(
    state: FeedState, granularity: str, calendar: Calendar, host: str, port: int
) -> web.AppRunner:
    """Serve until the returned runner is cleaned up.

    Raises
    ------
    Fatal
        The port is in use.
    """
    application = make_feed_web(state, granularity, calendar)
    return await open_status_port(application, status_access(host), port, "FEED_METRICS_PORT")
