"""Builds the sources that a ``Gatherer`` queries, from the settings of a deployment."""

from __future__ import annotations

from collections.abc import Mapping

from streams.config.feeds import FeedSettings
from streams.config.monitoring import Liveness
from streams.config.oanda import Oanda
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.mirror.probe import MirrorSight
from streams.monitoring.collect import Gatherer
from streams.monitoring.facts import KillFacts
from streams.monitoring.http_probe import StatusPages
from streams.monitoring.verdict import Limits
from streams.records.codec import Codec
from streams.trading.kill_switch.reader import KillSwitchReader, KillSwitchState

EVERYWHERE = ("0.0.0.0", "::", "")


def open_gatherer(
    env: Mapping[str, str], runtime: Runtime, config: Config, codec: Codec, reader: KillSwitchReader
) -> Gatherer:
    """Return a ``Gatherer`` for all sources of this deployment.

    Parameters
    ----------
    env
        The settings.
    reader
        Reader of the kill switch; the caller closes it.

    Raises
    ------
    Fatal
        A setting is unusable.
    """
    mirror = MirrorSight(runtime)

    async def ask_kill() -> KillFacts:
        return kill_facts(await reader.aread())

    return Gatherer(
        runtime,
        config,
        codec,
        ask_kill=ask_kill,
        mirror=mirror,
        pages=StatusPages(
            Service.from_env(env).trade_status_url,
            feed_url(env, runtime),
            Liveness.from_env(env).worker_urls,
            worker_here=own_worker_url(runtime),
        ),
    )


def own_worker_url(runtime: Runtime) -> str:
    """Return the metrics URL of a worker on this machine; empty when they are off."""
    return _own_url(runtime, runtime.metrics_port) if runtime.metrics_port else ""


def feed_url(env: Mapping[str, str], runtime: Runtime) -> str:
    """Return the metrics URL of the OANDA feed; empty when there is no such feed."""
    named, port = Liveness.from_env(env).feed_metrics_url, FeedSettings.from_env(env)
    if named or not Oanda.from_env(env).oanda_api_key or not port.feed_metrics_port:
        return named
    return _own_url(runtime, port.feed_metrics_port)


def _own_url(runtime: Runtime, port: int) -> str:
    host = "127.0.0.1" if runtime.metrics_host in EVERYWHERE else runtime.metrics_host
    return f"http://{host}:{port}/metrics"


def limits_of(env: Mapping[str, str]) -> Limits:
    """Return the thresholds of the failure signals, with the limits of the settings.

    Raises
    ------
    Fatal
        A setting is unusable.
    """
    trading = Trading.from_env(env)
    return Limits(
        settle_ms=FeedSettings.from_env(env).feed_settle_ms,
        stream_silent_sec=int(2 * Oanda.from_env(env).oanda_stream_silence_sec),
        kill_switch_sec=Liveness.from_env(env).kill_switch_long_sec,
        cycle_sec=max(1, int(trading.reconcile_interval_sec)),
        margin_entries=trading.margin_hyst_high,
        margin_overload=trading.margin_overload,
    )


def kill_facts(state: KillSwitchState) -> KillFacts:
    """Return the facts of the kill switch for the failure signals."""
    known = state.log is not None and state.offset is not None
    return KillFacts(
        state.engaged,
        state.log.engaged if state.log is not None and known else None,
        state.why,
        # a switch that was never used has no start of its state
        state.since_ms if known or not state.engaged else None,
        state.actor,
        state.reason,
    )
