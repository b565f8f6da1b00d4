"""Maps the events of the log to writes in Valkey. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from streams.candles.freshness import SETTLE_MS, fresh_for_ms
from streams.candles.rules import candle_refusal
from streams.config.settings import UnknownSettings
from streams.instants import GRANULARITY_MS
from streams.mirror import keys
from streams.pipeline.weights import gates_blob, status_object
from streams.records.control import best_config, control_problem, global_config
from streams.records.events import (
    Candle,
    Control,
    Event,
    GateDecision,
    Manifold,
    Ohlc,
    Signal,
    Summary,
    SummarySlice,
    Weights,
)
from streams.records.trading_events import BrokerReport, OrderIntent

NS_PER_MS = 1_000_000


class Latest(NamedTuple):
    """A last value: written unless the stored one is as new or newer in event time.

    Attributes
    ----------
    expires_ms
        Epoch ms at which it expires, None for never. Counted from the event time, so that a value
        never looks fresher than it is, live or rebuilt.
    channel
        Channel on which it is published once written; None for no publication.
    """

    key: str
    as_of_ms: int
    value: str
    expires_ms: int | None = None
    channel: str | None = None


class Point(NamedTuple):
    """A member of a time series; the first one of an instant is kept.

    Attributes
    ----------
    value_key
        Key that holds the value, if the member is its name; None if the member is the value.
    newest
        Number of members kept; 0 for all.
    span_ms
        Members older than the newest by more than this many ms are dropped; 0 for no limit.
    gone_ms
        Epoch ms at which the series expires, unless a newer member is added; None for never.
    """

    key: str
    at_ms: int
    member: str
    value_key: str | None = None
    value: str = ""
    newest: int = 0
    span_ms: int = 0
    gone_ms: int | None = None


class SeriesMember(NamedTuple):
    """A member of a time series that may hold several members per instant.

    Attributes
    ----------
    newest
        Number of members kept.
    """

    key: str
    at_ms: int
    member: str
    newest: int


Write = Latest | Point | SeriesMember


def silent(write: Write) -> Write:
    """Return the write without its publication."""
    return write._replace(channel=None) if isinstance(write, Latest) else write


class Retention(NamedTuple):
    """Retention: number of candles and signals per instrument (0 for all), and lifetimes.

    Attributes
    ----------
    settle_ms
        FEED_SETTLE_MS; the lifetime of a last manifold depends on it.
    history_hours
        Number of hourly evaluations kept (EVAL_HISTORY_HOURS).
    """

    candles: int
    signals: int
    settle_ms: int = SETTLE_MS
    history_hours: int = 720


def writes_of(event: Event, alloc_interval_sec: int, retention: Retention) -> list[Write]:
    """Return the writes of an event; none for events that are not mirrored.

    Parameters
    ----------
    alloc_interval_sec
        Shown in the allocator's status.
    retention
        Bounds of the series.
    """
    if isinstance(event, Candle):
        return _candle(event, retention.candles)
    if isinstance(event, Signal):
        return _signal(event, retention.signals)
    if isinstance(event, Manifold):
        return _manifold(event, retention.settle_ms)
    if isinstance(event, Summary):
        return _summary(event, retention.history_hours)
    if isinstance(event, GateDecision):
        return _decision(event)
    if isinstance(event, Control):
        return _control(event)
    if isinstance(event, Weights):
        return _weights(event, alloc_interval_sec)
    if isinstance(event, OrderIntent | BrokerReport):
        return [ledger_entry(event)]
    return []


def _text(content: Any) -> str:
    try:
        return json.dumps(content, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except ValueError:
        return _text(_finite(content))


def _finite(content: Any) -> Any:
    """Return JSON content with null for NaN and infinity."""
    if isinstance(content, dict):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _ohlc(prices: Ohlc | None) -> dict[str, float] | None:
    return None if prices is None else dict(zip("ohlc", prices, strict=True))


def _candle(event: Candle, newest: int) -> list[Write]:
    if candle_refusal(event, event.instrument.encode()):
        return []  # refused by the stages as well
    o, h, low, c = event.mid
    content = {
        "t": event.bar_ms,
        "o": o,
        "h": h,
        "l": low,
        "c": c,
        "v": event.volume,
        "mid": _ohlc(event.mid),
        "bid": _ohlc(event.bid),
        "ask": _ohlc(event.ask),
        "complete": True,
    }
    key = keys.candles_key(event.instrument, event.granularity)
    return [Point(key, event.bar_ms, _text(content), newest=newest)]


def _metrics(event: Signal | Manifold) -> dict[str, float]:
    return {
        "coherence": event.coherence,
        "stability": event.stability,
        "entropy": event.entropy,
        "rupture": event.rupture,
    }


def _repetition(event: Signal | Manifold) -> dict[str, Any]:
    return {
        "signature": event.signature,
        "count_1h": event.count_1h,
        "first_seen_ms": event.first_seen_ms,
    }


def _signal(event: Signal, newest: int) -> list[Write]:
    content = {
        "instrument": event.instrument,
        "timestamp_ns": event.bar_ms * NS_PER_MS,
        "ts_ns": event.bar_ms * NS_PER_MS,
        "ts_ms": event.bar_ms,
        "as_of_ms": event.as_of_ms,
        "window_start_ms": event.window_start_ms,
        "price": event.price,
        "state": "collapsed" if event.collapsed else "live",
        "metrics": _metrics(event),
        "coeffs": {"lambda_hazard": event.lambda_hazard},
        "repetition": _repetition(event),
        **_metrics(event),
        "lambda_hazard": event.lambda_hazard,
        "flip_ratio": event.flip_ratio,
        "volume_missing": event.volume_missing,
        "gap_bars": event.gap_bars,
        "config_id": event.config_id,
    }
    key = keys.signal_key(event.instrument, event.bar_ms)
    index = keys.signal_index_key(event.instrument)
    return [Point(index, event.bar_ms, key, value_key=key, value=_text(content), newest=newest)]


def _manifold(event: Manifold, settle_ms: int) -> list[Write]:
    content = {
        "instrument": event.instrument,
        "ts_ms": event.as_of_ms,
        "price": event.price,
        "metrics": _metrics(event),
        "coeffs": {
            "sigma_eff": event.sigma_eff,
            "lambda": event.lambda_,
            "lambda_hazard": event.lambda_hazard,
        },
        "repetition": _repetition(event),
        "diagnostics": {
            "source": "native",
            "candle_ts_ms": event.bar_ms,
            "window_start_ms": event.window_start_ms,
            "window_end_ms": event.as_of_ms,
            "bars": event.count,
            "gap_bars": event.gap_bars,
            "volume_missing": event.volume_missing,
            "late": event.late,
            "config_id": event.config_id,
        },
    }
    text = _text(content)
    return [
        Latest(
            keys.manifold_key(event.instrument),
            event.as_of_ms,
            text,
            event.as_of_ms + fresh_for_ms(GRANULARITY_MS[event.granularity], settle_ms),
            keys.MANIFOLD_CHANNEL,
        ),
        Point(keys.history_key(event.instrument), event.as_of_ms, text, span_ms=keys.HISTORY_MS),
    ]


def _summary(event: Summary, history_hours: int) -> list[Write]:
    figures = next(one for one in event.slices if one.days == event.span_days)
    content = {
        "ts": event.as_of_ms // 1000,
        "ts_ms": event.as_of_ms,
        "params": event.params._asdict() if event.params else {},
        "params_id": event.params_id,
        "summary": figures._asdict(),
        "slices": {str(one.days): one._asdict() for one in event.slices},
        "gates": event.floors._asdict(),
        "floor_samples": event.floor_samples,
        "span_integrity_ok": event.span_integrity_ok,
        "eligible": int(event.eligible),
    }
    key, gone_ms = keys.summary_key(event.instrument), event.as_of_ms + keys.SUMMARY_TTL_MS
    return [
        Latest(key, event.as_of_ms, _text(content), gone_ms),
        _evaluation(event, figures, history_hours),
    ]


def _evaluation(event: Summary, figures: SummarySlice, newest: int) -> Point:
    """Return the write for the first evaluation of an hour; the floors are percentiles of these."""
    content = {
        "ts": event.as_of_ms // 1000,
        "ts_ms": event.as_of_ms,
        "trades": figures.trades,
        "win_rate": figures.win_rate,
        "pnl_total": figures.pnl_total,
        "max_drawdown": figures.max_drawdown,
        "calmar": figures.calmar,
        "eligible": int(event.eligible),
    }
    hour_ms = event.as_of_ms - event.as_of_ms % keys.HOUR_MS
    return Point(
        keys.evaluations_key(event.instrument, event.params_id),
        hour_ms,
        _text(content),
        newest=newest,
        gone_ms=event.as_of_ms + keys.EVALUATIONS_TTL_MS,
    )


def _decision(event: GateDecision) -> list[Write]:
    name, at_ms = event.instrument, event.as_of_ms
    values = {
        keys.eligible_key(name): int(event.eligible),
        keys.rolling_key("passes", name): event.passes,
        keys.rolling_key("fails", name): event.fails,
        keys.rolling_key("misses", name): event.misses,
        keys.rolling_key("cooldown", name): int(event.cooldown_until_ms is not None),
    }
    return [Latest(key, at_ms, str(value)) for key, value in values.items()]


def _control(event: Control) -> list[Write]:
    if event.kind not in ("params", "config") or _without_effect(event):
        return []
    name = keys.GLOBAL if event.kind == "config" else event.instrument or ""
    found = global_config(event) if event.kind == "config" else best_config(event)
    # active overrides do not expire; withdrawn ones are shown for BEST_CONFIG_TTL_MS
    gone_ms = None if found["params"] else event.as_of_ms + keys.BEST_CONFIG_TTL_MS
    meta = {
        "instrument": name,
        "ts": event.as_of_ms,
        "actor": event.actor,
        "reason": event.reason,
        "in_force": bool(found["params"]),
        "names": sorted(found["params"]),
        "source": "ops.control",
    }
    channel = keys.live_config_channel(name)
    return [
        Latest(keys.best_config_key(name), event.as_of_ms, _text(found), gone_ms, channel),
        Latest(keys.best_config_meta_key(name), event.as_of_ms, _text(meta), gone_ms),
    ]


def _without_effect(event: Control) -> bool:
    """Return whether a control record is invalid, or of a newer version of this program."""
    try:
        return control_problem(event) is not None
    except UnknownSettings:
        return True


def _weights(event: Weights, alloc_interval_sec: int) -> list[Write]:
    weights = {entry.instrument: entry.weight for entry in event.entries}
    status = status_object(event, alloc_interval_sec)
    return [
        Latest(keys.GATES_BLOB, event.epoch_ms, _text(gates_blob(event))),
        Latest(keys.ALLOCATION_WEIGHTS, event.epoch_ms, _text(weights)),
        Latest(keys.ALLOCATOR_STATUS, event.epoch_ms, _text(status)),
    ]


def ledger_entry(event: OrderIntent | BrokerReport) -> SeriesMember:
    """Return an order, or a broker report on one, as an entry of the decision ledger."""
    content: dict[str, Any] = {
        "instrument": event.instrument,
        "order_id": event.order_id,
        "side": event.side,
        "units": event.units,
        "config_id": event.config_id,
        "as_of_ms": event.as_of_ms,
    }
    if isinstance(event, OrderIntent):
        at_ms = event.placed_ms
        content |= {
            "type": "brackets" if event.kind == "brackets" else "order",
            "kind": event.kind,
            "submitted": event.submitted,
            "refused_by": [v.guard for v in event.guards if not v.passed],
            "weight": event.weight,
            "target_units": event.target_units,
            "stop_loss": event.stop_loss,
            "take_profit": event.take_profit,
            "reason": event.reason,
            "request_id": event.request_id or None,
        }
    else:
        at_ms = event.time_ms
        content |= {
            "type": "fill" if event.status == "filled" else "report",
            "status": event.status,
            "cause": event.cause,
            "price": event.price,
            "realized_pl": event.realized_pl,
            "transaction_id": event.transaction_id or None,
            "reason": event.reason,
        }
    return SeriesMember(keys.LEDGER, at_ms, _text(content | {"ts_ms": at_ms}), keys.LEDGER_ENTRIES)
