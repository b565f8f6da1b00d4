"""What the metrics of all processes share."""

from __future__ import annotations

from typing import Any


class Children(dict[str | tuple[str, ...], Any]):
    """Label values -> child: one text for a metric with one label, else a tuple in label order.

    ``labels`` of the client takes a lock and turns every value into text at each call. Not for
    children that are removed: one that is kept here would be set and not exported.

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
