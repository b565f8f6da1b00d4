"""Prometheus collector of a client and its streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.oanda.stream import StreamHealth
from streams.oanda.transport import HttpTransport

FAILURES = ("error", "timeout", "400", "401", "403", "404", "429", "500", "502", "503", "504")
"""Request outcomes that are exported for every endpoint from its first request on."""


class OandaCollector(Collector):
    """Metrics of a client and of its streams.

    Parameters
    ----------
    transport
        The client.
    streams
        Stream name -> health.
    """

    def __init__(self, transport: HttpTransport, streams: Mapping[str, StreamHealth]) -> None:
        self._transport, self._streams = transport, streams

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics."""
        counts, transport = self._transport.counts, self._transport
        requests = CounterMetricFamily(
            "manifold_oanda_requests",
            "Requests to OANDA by outcome",
            labels=["endpoint", "outcome"],
        )
        # Prometheus sees an increase only in a series that it has scraped before
        endpoints = {endpoint for endpoint, _ in counts.requests}
        zeros = dict.fromkeys(product(endpoints, FAILURES), 0)
        for (endpoint, outcome), count in sorted((zeros | counts.requests).items()):
            requests.add_metric([endpoint, outcome], count)
        yield requests
        retries = CounterMetricFamily(
            "manifold_oanda_retries", "Retried requests", labels=["endpoint"]
        )
        for endpoint, count in sorted(counts.retries.items()):
            retries.add_metric([endpoint], count)
        yield retries
        yield CounterMetricFamily(
            "manifold_oanda_rate_limited", "Answers 429", value=counts.rate_limited
        )
        yield CounterMetricFamily(
            "manifold_oanda_connections", "Connections opened", value=counts.connections
        )
        yield GaugeMetricFamily(
            "manifold_oanda_circuit_open",
            "1 while the circuit breaker blocks requests after failures",
            value=float(transport.breaker.open),
        )
        yield GaugeMetricFamily(
            "manifold_oanda_access_refused_seconds",
            "For how long OANDA has refused the token; 0 while it accepts it",
            value=transport.access.refused_s,
        )
        skew_ms, either_way_ms = transport.clock.skew_ms, transport.clock.uncertainty_ms
        if skew_ms is not None and either_way_ms is not None:
            yield GaugeMetricFamily(
                "manifold_oanda_clock_skew_seconds",
                "OANDA's clock minus this machine's",
                value=skew_ms / 1000,
            )
            yield GaugeMetricFamily(
                "manifold_oanda_clock_skew_uncertainty_seconds",
                "Uncertainty of the skew in both directions",
                value=either_way_ms / 1000,
            )
        yield from self._stream_metrics()

    def _stream_metrics(self) -> Iterator[Metric]:
        kinds: tuple[tuple[Any, str, str], ...] = (
            (GaugeMetricFamily, "connected", "1 while lines arrive"),
            (CounterMetricFamily, "reconnects", "Number of reconnects"),
            (GaugeMetricFamily, "age_seconds", "Time since the last line"),
        )
        families = {
            name: kind(f"manifold_oanda_stream_{name}", doc, labels=["stream"])
            for kind, name, doc in kinds
        }
        for name, health in sorted(self._streams.items()):
            families["connected"].add_metric([name], float(health.connected))
            families["reconnects"].add_metric([name], health.reconnects)
            age_s = health.age_s()
            if age_s is not None:
                families["age_seconds"].add_metric([name], age_s)
        yield from families.values()
