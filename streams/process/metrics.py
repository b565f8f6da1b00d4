"""Helpers for Prometheus metrics, shared by all processes."""

from __future__ import annotations

from typing import Any


class Children(dict[str | tuple[str, ...], Any]):
    """Label values -> child metric; the key is a string for one label, else a tuple in label order.

    ``labels`` of the client library locks and converts every value on each call. Not for metrics
    whose children are removed: a cached child would be set but not exported.

    Parameters
    ----------
    metric
        A Counter, Gauge or Histogram with labels.
    """

    def __init__(self, metric: Any) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: str | tuple[str, ...]) -> Any:
        names = (values,) if isinstance(values, str) else values
        child = self[values] = self._metric.labels(*names)
        return child


METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
