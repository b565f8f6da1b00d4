"""The read part of the Confluent registry API, answered from the lock file.

It is served at the root of a port, because ``rpk`` refuses a registry URL with a path.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from aiohttp import web

from streams.errors import Fatal
from streams.kafka.registry import COMPATIBILITY, LockedRegistry

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
NO_SUBJECT, NO_VERSION, NO_SCHEMA, READ_ONLY = 40401, 40402, 40403, 42205
START_SECONDS = 10.0


def _answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(body), status=status, content_type=CONTENT_TYPE)


def _refusal(code: int, message: str) -> web.Response:
    return _answer({"error_code": code, "message": message}, code // 100)


class _Api:
    def __init__(self, registry: LockedRegistry) -> None:
        self._registry = registry

    async def subjects(self, _: web.Request) -> web.Response:
        return _answer(self._registry.subjects())

    async def versions(self, request: web.Request) -> web.Response:
        name = request.match_info["subject"]
        found = self._registry.versions(name)
        return _answer(found) if found else _refusal(NO_SUBJECT, f"Subject '{name}' not found.")

    async def version(self, request: web.Request) -> web.Response:
        name, wanted = request.match_info["subject"], request.match_info["version"]
        there = self._registry.versions(name)
        if not there:
            return _refusal(NO_SUBJECT, f"Subject '{name}' not found.")
        number = there[-1] if wanted in ("latest", "-1") else int(wanted) if wanted.isdigit() else 0
        if number not in there:
            return _refusal(NO_VERSION, f"Version {wanted} not found.")
        schema_id, text = self._registry.schema(name, number)
        if request.path.endswith("/schema"):
            return web.Response(text=text, content_type=CONTENT_TYPE)
        return _answer({"subject": name, "version": number, "id": schema_id, "schema": text})

    async def by_id(self, request: web.Request) -> web.Response:
        schema_id = int(request.match_info["id"])
        if schema_id not in self._registry.ids():
            return _refusal(NO_SCHEMA, f"Schema {schema_id} not found.")
        text = self._registry.by_id(schema_id)
        if request.path.endswith("/schema"):
            return web.Response(text=text, content_type=CONTENT_TYPE)
        return _answer({"schema": text})

    async def uses(self, request: web.Request) -> web.Response:
        schema_id = int(request.match_info["id"])
        found = [
            {"subject": name, "version": version}
            for name in self._registry.subjects()
            for version in self._registry.versions(name)
            if self._registry.schema(name, version)[0] == schema_id
        ]
        return _answer(found) if found else _refusal(NO_SCHEMA, f"Schema {schema_id} not found.")

    async def lookup(self, request: web.Request) -> web.Response:
        name = request.match_info["subject"]
        if not self._registry.versions(name):
            return _refusal(NO_SUBJECT, f"Subject '{name}' not found.")
        try:
            wanted = json.loads(json.loads(await request.text())["schema"])
        except (ValueError, KeyError, TypeError):
            return _refusal(42201, "Invalid schema")
        for number in self._registry.versions(name):
            schema_id, text = self._registry.schema(name, number)
            if json.loads(text) == wanted:
                return _answer(
                    {"subject": name, "version": number, "id": schema_id, "schema": text}
                )
        return _refusal(NO_SCHEMA, "Schema not found")

    async def types(self, _: web.Request) -> web.Response:
        return _answer(["AVRO"])

    async def compatibility(self, _: web.Request) -> web.Response:
        return _answer({"compatibilityLevel": COMPATIBILITY})

    async def mode(self, _: web.Request) -> web.Response:
        return _answer({"mode": "READONLY"})

    async def refuse(self, _: web.Request) -> web.Response:
        return _refusal(READ_ONLY, "This registry is read-only; its schemas are fixed")


def make_registry_web(registry: LockedRegistry) -> web.Application:
    """Return the web application that answers for ``registry``."""
    api = _Api(registry)
    routes = web.RouteTableDef()
    of_subject = "/subjects/{subject}"
    routes.get("/")(api.types)
    routes.get("/subjects")(api.subjects)
    routes.post(of_subject)(api.lookup)
    routes.get(of_subject + "/versions")(api.versions)
    routes.post(of_subject + "/versions")(api.refuse)
    routes.get(of_subject + "/versions/{version}")(api.version)
    routes.get(of_subject + "/versions/{version}/schema")(api.version)
    routes.get("/schemas/types")(api.types)
    routes.get(r"/schemas/ids/{id:\d+}")(api.by_id)
    routes.get(r"/schemas/ids/{id:\d+}/schema")(api.by_id)
    routes.get(r"/schemas/ids/{id:\d+}/versions")(api.uses)
    for path in ("/config", "/config/{subject}"):
        routes.get(path)(api.compatibility)
        routes.put(path)(api.refuse)
    for path in ("/mode", "/mode/{subject}"):
        routes.get(path)(api.mode)
        routes.put(path)(api.refuse)
    application = web.Application()
    application.add_routes(routes)
    return application


class RegistryServer:
    """The API on a loopback port, served from a thread of this process.

    Parameters
    ----------
    port
        Port on loopback.
    prefix
        The deployment's topic prefix, which is part of the subjects.
    """

    def __init__(self, port: int, prefix: str = "") -> None:
        self.port = port
        self._web = make_registry_web(LockedRegistry(prefix))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._trouble: OSError | None = None
        self._thread = threading.Thread(target=self._serve, name="registry", daemon=True)

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen.

        Raises
        ------
        Fatal
            The port cannot be used.
        """
        self._thread.start()
        self._ready.wait(START_SECONDS)
        if self._trouble is not None:
            raise Fatal(
                f"port {self.port} cannot be used for the schema registry "
                f"({self._trouble.strerror}); choose another"
            )

    def stop(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._web, access_log=None, handle_signals=False)
        self._loop.run_until_complete(runner.setup())
        try:
            site = web.TCPSite(runner, "127.0.0.1", self.port)
            self._loop.run_until_complete(site.start())
        except OSError as error:
            self._trouble = error
            return
        finally:
            self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()
