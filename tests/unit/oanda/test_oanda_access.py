"""A token that is replaced while the client runs, on the test broker."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from streams.config.oanda import Oanda
from streams.oanda.access import Access
from streams.oanda.client import OandaClient
from streams.oanda.errors import AccessRefused, AccessSuspended
from streams.oanda.stream import Connected, price_stream
from tests.support.oanda_clients import Naps, order
from tests.support.v20 import Handle, V20Server


@pytest.fixture
def broker() -> Iterator[Handle]:
    with V20Server(hours="always", heartbeat_sec=0.1) as made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path, broker: Handle) -> Path:
    path = tmp_path / "token"
    path.write_text(broker.token + "\n")
    return path


def put(path: Path, text: str) -> None:
    """Write a file, as whoever rotates the token does."""
    path.write_text(text, encoding="utf-8")


def settings(broker: Handle, path: Path, **more: str) -> Oanda:
    given = {k: v for k, v in broker.environment().items() if k != "OANDA_API_KEY"}
    return Oanda.from_env(given | {"OANDA_API_KEY_FILE": str(path)} | more)


async def test_a_rotated_token_needs_no_restart_and_loses_no_request(
    broker: Handle, token_file: Path
) -> None:
    async with OandaClient(settings(broker, token_file), Naps()) as oanda:
        await oanda.account_summary()
        broker.rotate("another-token-1")
        put(token_file, "another-token-1\n")
        assert (await oanda.account_summary()).currency == "USD"
        broker.rotate("another-token-2")
        put(token_file, "another-token-2")
        filled = await oanda.submit(order("rotated"))
        assert filled.filled is not None, (
            "a changing request goes out again: it was not carried out"
        )
        assert oanda.access.refused_s == 0.0
    assert broker.account()["clientOrders"]["rotated"]["submitted"] == 1


async def test_until_the_file_has_the_new_token_a_refusal_is_one_that_may_pass(
    broker: Handle, token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OandaClient(settings(broker, token_file), Naps()) as oanda:
        await oanda.account_summary()
        broker.rotate("another-token")
        with caplog.at_level(logging.ERROR):
            for _ in range(6):
                with pytest.raises(AccessSuspended, match="OANDA_API_KEY_FILE"):
                    await oanda.account_summary()
                with pytest.raises(AccessSuspended):
                    await oanda.close_trade("1")
        assert len(caplog.records) == 1, "said aloud, once a minute"
        assert not oanda.breaker.open, "it answers"
        put(token_file, "being written\nstill")
        with pytest.raises(AccessSuspended, match="holds no token"):
            await oanda.account_summary()
        put(token_file, "another-token")
        assert (await oanda.account_summary()).currency == "USD"
        assert "another-token" not in oanda.clean("it said another-token")


async def test_a_stream_opens_again_with_the_new_token(broker: Handle, token_file: Path) -> None:
    async with OandaClient(settings(broker, token_file), Naps()) as oanda:
        stream, seen = price_stream(oanda, ["EUR_USD"]), 0
        async for event in stream.events():
            if not isinstance(event, Connected):
                continue
            seen += 1
            if seen == 2:
                break
            broker.rotate("another-token")
            put(token_file, "another-token")
            broker.drop()


async def test_where_the_token_was_never_good_the_refusal_is_final(
    broker: Handle, token_file: Path
) -> None:
    put(token_file, "wrong")
    async with OandaClient(settings(broker, token_file), Naps()) as oanda:
        with pytest.raises(AccessRefused, match="check both"):
            await oanda.account_summary()
    async with OandaClient(settings(broker, token_file), Naps()) as oanda:
        oanda.access.expect()  # the log says that it was good before
        with pytest.raises(AccessSuspended):
            await oanda.account_summary()


def test_after_auth_retry_sec_the_refusal_is_final(broker: Handle, token_file: Path) -> None:
    now = [0.0]
    access = Access(replace(settings(broker, token_file), auth_retry_sec=900.0), lambda: now[0])
    access.accepted()
    assert isinstance(access.refused("order", 401), AccessSuspended)
    now[0] = 899.0
    assert isinstance(access.refused("order", 401), AccessSuspended)
    assert access.refused_s == 899.0
    now[0] = 900.0
    final = access.refused("order", 401)
    assert isinstance(final, AccessRefused) and "AUTH_RETRY_SEC" in str(final)
    access.accepted()
    assert isinstance(access.refused("order", 401), AccessSuspended)
