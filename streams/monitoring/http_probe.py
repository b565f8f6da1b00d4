"""Reads the executor's ``/status`` and the ``/metrics`` of feed and workers as facts.

Only the documented format is accepted; anything else counts as unavailable.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from streams.config.difference import Difference
from streams.config.status_ports import status_headers
from streams.errors import Recoverable
from streams.kafka.decoding import INVALID_RECORDS, LAST_OFFSET, LAST_TIME, InvalidKind
from streams.monitoring.executor_status import agreed_status, executor_facts
from streams.monitoring.facts import (
    CallFacts,
    ExecutorFacts,
    FeedFacts,
    ProcessFacts,
    WorkerFacts,
)
from streams.process.started import START_TIME
from streams.records.config_following import DIFFERS

REQUEST_TIMEOUT_SEC: Final = 3.0
WINDOW_MS: Final = 3_600_000
LARGEST_PAGE: Final = 4_194_304
REQUESTS: Final = "manifold_oanda_requests_total"
BREAKER: Final = "manifold_oanda_circuit_open"
STREAM_AGE: Final = "manifold_oanda_stream_age_seconds"
SKEW: Final = "manifold_oanda_clock_skew_seconds"
PRICES: Final = {"stream": "prices"}
ORDER_NOT_FOUND: Final = ("order", "404")
"""A 404 for an unknown order is an answer, not a failure."""

Samples = list[tuple[str, Mapping[str, str], float]]


class Recent:
    """The increase of another process's counter over the last ``WINDOW_MS``.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque()
        self._last: float | None = None
        self._grown = 0.0

    def note(self, total: float) -> int | None:
        """Add a value; return the increase, None at the first value."""
        now = self._clock()
        first = self._last is None
        if self._last is not None:
            # a restarted process counts from 0
            self._grown += total - self._last if total >= self._last else total
        self._last = total
        self._seen.append((now, self._grown))
        # the newest value before the window is kept as the base of the increase
        while len(self._seen) > 1 and now - self._seen[1][0] > WINDOW_MS / 1000:
            self._seen.popleft()
        return None if first else int(self._grown - self._seen[0][1])


class StatusPages:
    """Queries executor, feed and workers over HTTP, with one session.

    Parameters
    ----------
    executor_url
        URL of the executor's ``/status``; ``/metrics`` is on the same port. Empty: no executor.
    feed_url
        URL of the feed's ``/metrics``. Empty: no OANDA feed.
    worker_urls
        URLs of the workers' ``/metrics``.
    worker_here
        Without those: URL of the ``/metrics`` of a worker that may run on this machine.
    """

    def __init__(
        self,
        executor_url: str,
        feed_url: str,
        worker_urls: Sequence[str] = (),
        *,
        worker_here: str = "",
    ) -> None:
        self._executor_url, self._feed_url = executor_url, feed_url
        self._worker_urls, self._worker_here = worker_urls, worker_here
        self._session: aiohttp.ClientSession | None = None
        self._errors = {"executor": Recent(), "feed": Recent()}

    @property
    def has_executor(self) -> bool:
        """Whether an executor is configured."""
        return bool(self._executor_url)

    @property
    def has_feed(self) -> bool:
        """Whether a feed is configured."""
        return bool(self._feed_url)

    @property
    def has_workers(self) -> bool:
        """Whether workers are configured."""
        return bool(self._worker_urls or self._worker_here)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def executor(self) -> ExecutorFacts:
        """Return the executor's status.

        Raises
        ------
        Recoverable
            It does not answer, or in another format.
        """
        text = await self._get(self._executor_url)
        try:
            found = executor_facts(agreed_status(text))
        except ValueError as error:
            raise Recoverable(f"{self._executor_url} is not an executor's status") from error
        metrics_url = self._executor_url.rsplit("/", 1)[0] + "/metrics"
        samples = samples_of(await self._get(metrics_url))
        return found._replace(calls=self._calls("executor", samples), seen=process_facts(samples))

    async def feed(self) -> FeedFacts:
        """Return the facts from the feed's metrics.

        Raises
        ------
        Recoverable
            It does not answer, or in another format.
        """
        samples = samples_of(await self._get(self._feed_url))
        now_ms = time.time_ns() // 1_000_000
        return feed_facts(samples, now_ms)._replace(calls=self._calls("feed", samples))

    async def workers(self) -> WorkerFacts:
        """Return the facts from the workers' metrics.

        Raises
        ------
        Recoverable
            A configured worker does not answer, or in another format.
        """
        urls = self._worker_urls or (self._worker_here,)
        answers = await asyncio.gather(*(self._worker(url) for url in urls))
        found = [each for answer in answers for each in answer]
        return WorkerFacts(
            {address: differences_of(samples) for address, samples in found},
            tuple(process_facts(samples) for _, samples in found),
        )

    async def _worker(self, url: str) -> list[tuple[str, Samples]]:
        place = urlsplit(url)
        try:
            samples = samples_of(await self._get(url))
        except Recoverable:
            if self._worker_urls:
                raise
            return []  # a worker on this machine is optional
        return [(f"{place.hostname}:{place.port}", samples)]

    def _calls(self, who: str, samples: Samples) -> CallFacts | None:
        made = [(labels, value) for name, labels, value in samples if name == REQUESTS]
        if not made:
            return None
        failed = [(labels, value) for labels, value in made if failed_request(labels)]
        recent = self._errors[who].note(sum(value for _, value in failed))
        held = any(value > 0 for name, _, value in samples if name == BREAKER)
        kinds = sorted({labels.get("outcome", "?") for labels, value in failed if value > 0})
        return CallFacts(recent, WINDOW_MS, held, ", ".join(kinds))

    async def _get(self, url: str) -> str:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SEC)
            self._session = aiohttp.ClientSession(timeout=timeout)
        place = urlsplit(url)
        where = f"{place.hostname}:{place.port}{place.path}"
        try:
            headers = status_headers(url)
            async with self._session.get(url, allow_redirects=False, headers=headers) as answer:
                if answer.status != 200:
                    raise Recoverable(f"{where} answers {answer.status}")
                content = await answer.content.read(LARGEST_PAGE)
        except TimeoutError as error:
            raise Recoverable(
                f"{where} does not answer within {REQUEST_TIMEOUT_SEC:g} s"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise Recoverable(f"nothing answers at {where}") from error
        return content.decode("utf-8", "replace")


def samples_of(text: str) -> Samples:
    """Return the samples of a Prometheus page.

    Raises
    ------
    Recoverable
        It is not in the Prometheus text format.
    """
    try:
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]
    except ValueError as error:
        raise Recoverable("the page is not in the Prometheus text format") from error


def failed_request(labels: Mapping[str, str]) -> bool:
    """Return whether a request with these labels counts as failed."""
    outcome = labels.get("outcome", "")
    if (labels.get("endpoint"), outcome) == ORDER_NOT_FOUND:
        return False
    return not outcome.startswith("2")


def differences_of(samples: Samples) -> tuple[Difference, ...]:
    """Return the differences to the active settings that a process reports."""
    return tuple(
        Difference(*(labels.get(label, "") for label in ("setting", "here", "active")))
        for name, labels, value in samples
        if name == DIFFERS and value > 0
    )


def process_facts(samples: Samples) -> ProcessFacts:
    """Return what a process reports about itself: its start and the invalid records."""
    starts: dict[str, int] = {}
    counts: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], tuple[int, int]] = {}
    times: dict[tuple[str, str], int] = {}
    for name, labels, value in samples:
        if not math.isfinite(value):
            continue
        kind = labels.get("topic", ""), labels.get("reason", "")
        if name == START_TIME:
            starts[labels.get("process", "")] = round(value * 1000)
        elif name == f"{INVALID_RECORDS}_total":
            counts[kind] = int(value)
        elif name == LAST_OFFSET and labels.get("partition", "").isdecimal():
            places[kind] = int(labels["partition"]), int(value)
        elif name == LAST_TIME:
            times[kind] = round(value * 1000)
    invalid = (
        InvalidKind(*kind, count, *places.get(kind, (-1, -1)), times.get(kind, 0))
        for kind, count in sorted(counts.items())
    )
    return ProcessFacts(starts, tuple(invalid))


def feed_facts(samples: Samples, now_ms: int) -> FeedFacts:
    """Return the facts from a feed's samples; a metric it does not export is unknown."""
    ages = [
        v for name, labels, v in samples if name == STREAM_AGE and labels == {"stream": "prices"}
    ]
    skews = [value for name, _, value in samples if name == SKEW]
    return FeedFacts(
        now_ms - int(ages[0] * 1000) if ages else None,
        int(skews[0] * 1000) if skews else None,
        config_differs=differences_of(samples),
        seen=process_facts(samples),
    )


async def feed_runs(feed_metrics_url: str) -> bool:
    """Return whether a feed runs there; a second one would fence it."""
    pages = StatusPages("", feed_metrics_url)
    try:
        await pages.feed()
    except Recoverable:
        return False
    finally:
        await pages.close()
    return True
