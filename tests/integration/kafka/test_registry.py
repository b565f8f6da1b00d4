"""The codec on a real schema registry: registered, compatible, resolved, and what is refused."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.cluster_check import check_registry
from streams.kafka.registry import COMPATIBILITY, open_codec, registry_of
from streams.records import schemas
from streams.records.codec import DecodeError, locked_codec
from streams.records.events import Candle, Ohlc, Watermark
from streams.records.topics import TOPICS, subject
from tests.support.certificates import certificate

MID = Ohlc(1.1, 1.2, 1.0, 1.15)
CANDLE = Candle(
    "EUR_USD", "M1", 1_700_000_040_000, 1_700_000_100_000, MID, None, None, False, 7, "file"
)
WATERMARK = Watermark(1_700_000_100_000, "M1", 3, ("EUR_USD",))


def runtime_of(url: str, prefix: str, **more: str) -> Runtime:
    return Runtime.from_env({"SCHEMA_REGISTRY_URL": url, "TOPIC_PREFIX": prefix, **more})


@pytest.fixture
def runtime(registry: Any, topic_prefix: str) -> Runtime:
    return runtime_of(registry.url, topic_prefix)


pytestmark = pytest.mark.registry


async def test_every_subject_is_registered_with_its_versions_and_level(runtime: Runtime) -> None:
    await open_codec(runtime)
    names = {
        subject(topic.name, record, runtime.topic_prefix): record
        for topic in TOPICS.values()
        for record in topic.records
    }
    async with registry_of(runtime) as registry:
        assert {s for s in await registry.subjects() if s.startswith(runtime.topic_prefix)} == set(
            names
        )
        for name, record in names.items():
            assert len(await registry.versions(name)) == len(schemas.released()[record])
            assert await registry.compatibility(name) == COMPATIBILITY


async def test_a_second_program_gets_the_same_ids(runtime: Runtime) -> None:
    first, second = await open_codec(runtime), await open_codec(runtime)
    assert first.encode("md.candles", CANDLE) == second.encode("md.candles", CANDLE)
    assert second.decode("md.candles", first.encode("md.candles", CANDLE)) == CANDLE


async def test_the_body_does_not_depend_on_where_ids_come_from(runtime: Runtime) -> None:
    codec = await open_codec(runtime)
    for event in (CANDLE, WATERMARK):
        frame = codec.encode("md.candles", event)
        assert frame[5:] == locked_codec().encode("md.candles", event)[5:]


async def test_an_incompatible_subject_is_fatal_and_named(runtime: Runtime) -> None:
    name = subject("md.candles", "Candle", runtime.topic_prefix)
    other = schemas.newest("Candle")
    other["fields"] = [{"name": "instrument", "type": "long"}, *other["fields"][1:]]
    async with registry_of(runtime) as registry:
        await registry.register(name, json.dumps(other))
    with pytest.raises(Fatal, match=f"subject {name}: .*TOPIC_PREFIX"):
        await open_codec(runtime)
    finding = await check_registry(runtime)
    assert not finding.ok
    assert name in finding.detail


async def test_the_check_registers_nothing(runtime: Runtime) -> None:
    assert (await check_registry(runtime)).ok
    async with registry_of(runtime) as registry:
        assert [s for s in await registry.subjects() if s.startswith(runtime.topic_prefix)] == []
    await open_codec(runtime)
    assert (await check_registry(runtime)).detail == "every schema is registered"


async def test_a_newer_writers_id_is_resolved(runtime: Runtime) -> None:
    codec = await open_codec(runtime)
    newer = schemas.newest("Watermark")
    newer["fields"] = [{"name": "feed", "type": "string", "default": ""}, *newer["fields"]]
    async with registry_of(runtime) as registry:
        name = subject("md.candles", "Watermark", runtime.topic_prefix)
        new_id = await registry.register(name, json.dumps(newer))
    body = codec.encode("md.candles", WATERMARK)[5:]
    frame = new_id.to_bytes(5, "big") + b"\x0anorth" + body
    unheard_of = (2_000_000_000).to_bytes(5, "big") + body
    assert codec.unknown_ids([frame, unheard_of]) == {new_id, 2_000_000_000}
    await codec.resolve({new_id, 2_000_000_000})
    assert codec.decode("md.candles", frame) == WATERMARK
    with pytest.raises(DecodeError, match="unknown_schema_id"):
        codec.decode("md.candles", unheard_of)


async def test_a_wrong_path_is_not_an_empty_registry(runtime: Runtime, topic_prefix: str) -> None:
    root = runtime.schema_registry_url.split("/apis")[0]
    with pytest.raises(Fatal, match="check the path in SCHEMA_REGISTRY_URL"):
        await open_codec(runtime_of(f"{root}/nothing/here", topic_prefix))


async def test_no_registry_is_recoverable_and_says_what_to_do(topic_prefix: str) -> None:
    with pytest.raises(Recoverable, match=r"127\.0\.0\.1:1 cannot be reached.*lock file"):
        await open_codec(runtime_of("http://127.0.0.1:1", topic_prefix))


# -- the same registry behind TLS and a login ----------------------------------------------------


@pytest.fixture
async def guarded(registry: Any, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The registry behind a door that asks for ops:secret, over TLS: (url, CA file)."""
    cert_file, key_file = certificate(tmp_path)
    expected = "Basic " + base64.b64encode(b"ops:secret").decode()
    session = aiohttp.ClientSession()

    async def forward(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != expected:
            return web.json_response({"error_code": 40101, "message": "no"}, status=401)
        async with session.request(
            request.method,
            registry.url + request.path_qs,
            data=await request.read(),
            headers={"Content-Type": request.headers.get("Content-Type", "")},
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", forward)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert_file, key_file)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    yield f"https://127.0.0.1:{port}", cert_file
    await runner.cleanup()
    await session.close()


async def test_login_and_tls(guarded: tuple[str, Path], topic_prefix: str) -> None:
    url, ca = guarded
    login = {"SCHEMA_REGISTRY_USERNAME": "ops", "SCHEMA_REGISTRY_PASSWORD": "secret"}
    codec = await open_codec(runtime_of(url, topic_prefix, SCHEMA_REGISTRY_TLS_CA=str(ca), **login))
    assert codec.decode("md.candles", codec.encode("md.candles", CANDLE)) == CANDLE


async def test_a_wrong_login_is_fatal(guarded: tuple[str, Path], topic_prefix: str) -> None:
    url, ca = guarded
    login = {"SCHEMA_REGISTRY_USERNAME": "ops", "SCHEMA_REGISTRY_PASSWORD": "guess"}
    with pytest.raises(Fatal, match=r"refuses the login.*SCHEMA_REGISTRY_PASSWORD"):
        await open_codec(runtime_of(url, topic_prefix, SCHEMA_REGISTRY_TLS_CA=str(ca), **login))


async def test_an_unknown_certificate_is_fatal(
    guarded: tuple[str, Path], topic_prefix: str
) -> None:
    url, _ = guarded
    with pytest.raises(Fatal, match="SCHEMA_REGISTRY_TLS_CA"):
        await open_codec(runtime_of(url, topic_prefix))
