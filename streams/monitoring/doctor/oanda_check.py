"""Checks of OANDA: token, account, environment, instruments and their precision, clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from streams.checks import Finding
from streams.config.oanda import Oanda
from streams.oanda.client import OandaClient

ANSWER_SEC: Final = 10.0
MOST_SKEW_MS: Final = 2_000
LIVE: Final = "this account trades real money; for practice set OANDA_ENVIRONMENT=practice"
YEN_DIGITS, OTHER_DIGITS = 3, 5


async def check_oanda(access: Oanda, pairs: Sequence[str]) -> list[Finding]:
    """Return the findings on OANDA; only reads.

    Raises
    ------
    Fatal, Recoverable
        The token or the account is refused; OANDA does not answer.
    """
    if not access.oanda_api_key:
        return [Finding("oanda", "skip", "OANDA_API_KEY is not set: OANDA is not used")]
    # one attempt only: the user is waiting
    bounded = replace(
        access,
        oanda_http_retries=0,
        oanda_http_timeout_sec=min(access.oanda_http_timeout_sec, ANSWER_SEC),
    )
    async with OandaClient(bounded) as client:
        account = await client.account_summary()
        known = await client.instruments()
        skew_ms, either_way_ms = client.clock.skew_ms, client.clock.uncertainty_ms
    kind = "LIVE account" if access.oanda_environment == "live" else "practice account"
    told = f"{kind} {account.account_id} in {account.currency}, {account.open_trades} open trades"
    live = access.oanda_environment == "live"
    return [
        Finding("oanda", "warn", told, LIVE) if live else Finding("oanda", "ok", told),
        _instruments(pairs, {name: spec.price_digits for name, spec in known.items()}),
        _clock(skew_ms, either_way_ms),
    ]


def _instruments(pairs: Sequence[str], digits: dict[str, int]) -> Finding:
    missing = [pair for pair in pairs if pair not in digits]
    if missing:
        detail = f"not tradeable in this account: {', '.join(missing)} of HOTBAND_PAIRS"
        action = "remove them from HOTBAND_PAIRS, or use another account"
        return Finding("oanda pairs", "fail", detail, action)
    unusual = [
        f"{pair} {digits[pair]}"
        for pair in pairs
        if digits[pair] != (YEN_DIGITS if pair.endswith("_JPY") else OTHER_DIGITS)
    ]
    if unusual:
        detail = f"unusual number of price decimals: {', '.join(unusual)}"
        action = "orders use the account's own precision; check that it is as expected"
        return Finding("oanda pairs", "warn", detail, action)
    return Finding("oanda pairs", "ok", f"all {len(pairs)} of HOTBAND_PAIRS, usual precision")


def _clock(skew_ms: float | None, either_way_ms: float | None) -> Finding:
    if skew_ms is None or either_way_ms is None:
        return Finding("oanda clock", "warn", "OANDA's answers carry no date", "synchronise by NTP")
    told = f"OANDA's clock minus this one: {skew_ms / 1000:+.1f} s"
    told += f", +/- {either_way_ms / 1000:.1f} s"
    if abs(skew_ms) - either_way_ms > MOST_SKEW_MS:
        return Finding("oanda clock", "fail", told, "synchronise this machine's clock (NTP)")
    return Finding("oanda clock", "ok", told)
