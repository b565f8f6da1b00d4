"""Schema ids, from the lock file or a Confluent-compatible schema registry.

`open_codec` is what programs call. With ``SCHEMA_REGISTRY_URL`` it makes every subject
BACKWARD_TRANSITIVE, because topics are replayed from their beginning, registers the released
versions in order and uses the ids in the responses. Without a registry the ids of
``schemas/registry.lock.json`` are used, so that frames are identical on every machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, unquote, urlsplit

from streams.config.runtime import Runtime
from streams.errors import Fatal, Recoverable
from streams.kafka.client import tls_context
from streams.records import schemas
from streams.records.codec import Codec, locked_codec
from streams.records.topics import TOPICS, subject

# importing aiohttp takes half the start-up time of a command that needs no registry
if TYPE_CHECKING:
    import aiohttp

COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_S: Final = 15
_ATTEMPTS: Final = 3


class LockedRegistry:
    """Read-only registry, answered from the lock file and the schema files.

    Parameters
    ----------
    prefix
        The deployment's topic prefix, part of the subject names.

    Raises
    ------
    Fatal
        The lock and the schema files do not match.
    """

    def __init__(self, prefix: str = "") -> None:
        texts = {one.file: one.text for every in schemas.released().values() for one in every}
        lock = schemas.read_lock()
        self._subjects = {
            prefix + name: {v: (e.id, texts[e.file]) for v, e in sorted(versions.items())}
            for name, versions in lock.items()
        }
        self._texts = dict(
            sorted(pair for versions in self._subjects.values() for pair in versions.values())
        )

    def subjects(self) -> list[str]:
        """Return every subject, sorted."""
        return sorted(self._subjects)

    def versions(self, name: str) -> list[int]:
        """Return the versions of a subject, oldest first; empty for an unknown subject."""
        return list(self._subjects.get(name, {}))

    def schema(self, name: str, version: int) -> tuple[int, str]:
        """Return (id, schema as JSON) of a version of a subject.

        Raises
        ------
        KeyError
            There is no such subject or version.
        """
        return self._subjects[name][version]

    def ids(self) -> list[int]:
        """Return every id, sorted."""
        return list(self._texts)

    def by_id(self, schema_id: int) -> str:
        """Return the schema with this id as JSON.

        Raises
        ------
        KeyError
            The id is unknown.
        """
        return self._texts[schema_id]


class ConfluentRegistry:
    """A client of the Confluent registry API, with the calls that the codec needs.

    Parameters
    ----------
    url
        Address, with a path where the registry has one (``http://host:8080/apis/ccompat/v7``).
    auth
        (user name, password) or None.
    tls
        Context for https; None trusts the system's authorities.

    Notes
    -----
    An asynchronous context manager. Every method raises Recoverable when the registry cannot be
    reached or returns a server error, and Fatal when it refuses the login.
    """

    def __init__(
        self,
        url: str,
        auth: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Fatal(f"SCHEMA_REGISTRY_URL={_without_password(url)} is not an http or https URL")
        if parts.username and auth is None:
            auth = (unquote(parts.username), unquote(parts.password or ""))
        self._url = _without_password(url).rstrip("/")
        self._headers = {
            "Accept": f"{_CONTENT_TYPE}, application/json",
            "Content-Type": _CONTENT_TYPE,
        }
        if auth:
            login = base64.b64encode(":".join(auth).encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def date(self) -> str:
        """Return the ``Date`` header of any response; empty without one.

        Raises
        ------
        aiohttp.ClientError, TimeoutError
            The registry does not answer.
        """
        if self._session is None:
            raise RuntimeError("ConfluentRegistry is used outside of 'async with'")
        async with self._session.get(f"{self._url}/schemas/types") as response:
            return response.headers.get("Date", "")

    async def subjects(self) -> list[str]:
        """Return every subject of the registry, sorted."""
        _, answer = await self._call("GET", "/subjects", accept=(200,))
        return sorted(answer)

    async def versions(self, name: str) -> list[int]:
        """Return the versions of a subject; empty for an unknown subject."""
        status, answer = await self._call(
            "GET", f"/subjects/{_quoted(name)}/versions", accept=(200, 404)
        )
        return list(answer) if status == 200 else []

    async def by_id(self, schema_id: int) -> str | None:
        """Return the schema with this id as JSON, None when it is unknown or not Avro."""
        status, answer = await self._call("GET", f"/schemas/ids/{schema_id}", accept=(200, 404))
        if status == 404 or answer.get("schemaType", "AVRO") != "AVRO":
            return None
        return str(answer["schema"])

    async def compatibility(self, name: str) -> str | None:
        """Return the subject's own compatibility level, None when it has none."""
        status, answer = await self._call("GET", f"/config/{_quoted(name)}", accept=(200, 404))
        return str(answer.get("compatibilityLevel")) if status == 200 else None

    async def require_compatibility(self, name: str) -> None:
        """Set the subject's compatibility to BACKWARD_TRANSITIVE if it is not."""
        if await self.compatibility(name) != COMPATIBILITY:
            await self._call(
                "PUT", f"/config/{_quoted(name)}", {"compatibility": COMPATIBILITY}, accept=(200,)
            )

    async def incompatible_because(self, name: str, text: str) -> str | None:
        """Return why ``text`` is incompatible with the subject, None when it is compatible.

        Empty when the registry gives no reason.
        """
        path = f"/compatibility/subjects/{_quoted(name)}/versions?verbose=true"
        status, answer = await self._call("POST", path, {"schema": text}, accept=(200, 404, 422))
        if status == 404 or (status == 200 and answer.get("is_compatible", True)):
            return None
        return "; ".join(map(str, answer.get("messages") or ())) or str(answer.get("message", ""))

    async def lookup(self, name: str, text: str) -> int | None:
        """Return the id of ``text`` in the subject, None when it is not registered there."""
        status, answer = await self._call(
            "POST", f"/subjects/{_quoted(name)}", {"schema": text}, accept=(200, 404)
        )
        return int(answer["id"]) if status == 200 else None

    async def register(self, name: str, text: str) -> int:
        """Register ``text`` in the subject and return its id; no change if already registered.

        Raises
        ------
        Fatal
            The schema is incompatible with the subject; the message gives the registry's reason.
        """
        status, answer = await self._call(
            "POST", f"/subjects/{_quoted(name)}/versions", {"schema": text}, accept=(200, 409, 422)
        )
        if status == 200:
            return int(answer["id"])
        reason = await self.incompatible_because(name, text) or answer.get("message", answer)
        reason = str(reason).removeprefix("io.apicurio.registry.rules.RuleViolationException: ")
        raise Fatal(
            f"the registry refuses the schema of subject {name}: {reason}. Another program or "
            "version owns the subject; use another TOPIC_PREFIX, or the version that wrote it"
        )

    async def _call(
        self, method: str, path: str, body: Any = None, *, accept: tuple[int, ...]
    ) -> tuple[int, Any]:
        """Return (status, decoded response); connection errors and 5xx are tried three times."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._once(method, path, body, accept)
            except Recoverable:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(0.2 * attempt)
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, body: Any, accept: tuple[int, ...]
    ) -> tuple[int, Any]:
        import aiohttp

        if self._session is None:
            raise RuntimeError("ConfluentRegistry is used outside of 'async with'")
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(method, self._url + path, data=data) as response:
                status, text = response.status, await response.text()
        except aiohttp.ClientConnectorCertificateError as error:
            raise Fatal(
                f"the certificate of the schema registry {self._url} is not trusted: "
                f"{error.certificate_error}; set SCHEMA_REGISTRY_TLS_CA"
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise Recoverable(
                f"the schema registry {self._url} cannot be reached ({said}); start it, or unset "
                "SCHEMA_REGISTRY_URL to use the ids of the lock file"
            ) from error
        return self._judge(path, status, text, accept)

    def _judge(self, path: str, status: int, text: str, accept: tuple[int, ...]) -> tuple[int, Any]:
        try:
            answer = json.loads(text) if text else {}
        except ValueError:
            answer = None
        if status in (401, 403):
            raise Fatal(
                f"the schema registry {self._url} refuses the login ({status}); check "
                "SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD"
            )
        if status >= 500 or status == 429:
            raise Recoverable(f"the schema registry {self._url} returns {status}: {text[:200]}")
        # A registry returns 404 as JSON with its own error code; any other 404 means a wrong path,
        # and would look like an empty registry.
        if status not in accept or answer is None or (status == 404 and "error_code" not in answer):
            raise Fatal(
                f"{self._url}{path} returns {status}, which is not an answer of a schema registry: "
                f"{text[:200]!r}; check the path in SCHEMA_REGISTRY_URL"
            )
        return status, answer


def registry_of(runtime: Runtime) -> ConfluentRegistry:
    """Return the client of the configured registry; open it with ``async with``.

    Raises
    ------
    Fatal
        The address or the certificate file is invalid.
    """
    user = runtime.schema_registry_username
    ca = runtime.schema_registry_tls_ca
    return ConfluentRegistry(
        runtime.schema_registry_url,
        (user, runtime.schema_registry_password) if user else None,
        tls_context("SCHEMA_REGISTRY_TLS_CA", ca) if ca else None,
    )


async def register_all(
    registry: ConfluentRegistry, prefix: str = ""
) -> tuple[dict[str, list[int]], dict[int, str]]:
    """Register all released schemas.

    Returns
    -------
    tuple
        Subject -> ids of its versions, oldest first; and id -> schema as JSON.

    Raises
    ------
    Fatal, Recoverable
        As the methods of `ConfluentRegistry`.
    """
    ids: dict[str, list[int]] = {}
    texts: dict[int, str] = {}
    for topic in TOPICS.values():
        for record in topic.records:
            name = subject(topic.name, record, prefix)
            ids[name] = await _register_subject(registry, name, record)
            released = schemas.released()[record]
            texts.update(zip(ids[name], (one.text for one in released), strict=True))
    return ids, texts


async def _register_subject(registry: ConfluentRegistry, name: str, record: str) -> list[int]:
    versions = schemas.released()[record]
    found = [await registry.lookup(name, one.text) for one in versions]
    await registry.require_compatibility(name)
    # A registered version is not registered again: a registry with newer versions would check the
    # old version against them.
    return [
        await registry.register(name, one.text) if schema_id is None else schema_id
        for schema_id, one in zip(found, versions, strict=True)
    ]


async def subject_ids(runtime: Runtime) -> tuple[dict[str, list[int]], dict[int, str]]:
    """Return the schema ids of a deployment; registers the schemas if there is a registry.

    Returns
    -------
    tuple
        As `register_all`; without a registry the ids of the lock file.

    Raises
    ------
    Fatal, Recoverable
        As `open_codec`.
    """
    if not runtime.schema_registry_url:
        locked = LockedRegistry(runtime.topic_prefix)
        names = locked.subjects()
        ids = {name: [locked.schema(name, v)[0] for v in locked.versions(name)] for name in names}
        return ids, {one: locked.by_id(one) for one in locked.ids()}
    async with registry_of(runtime) as registry:
        return await register_all(registry, runtime.topic_prefix)


async def open_codec(runtime: Runtime) -> Codec:
    """Return the codec of a deployment; registers its schemas if there is a registry.

    Raises
    ------
    Recoverable
        The registry cannot be reached.
    Fatal
        The registry refuses the login or a schema, or schema files and lock file do not match.
    """
    if not runtime.schema_registry_url:
        return locked_codec(runtime.topic_prefix)
    ids, texts = await subject_ids(runtime)

    async def fetch(schema_id: int) -> str | None:
        async with registry_of(runtime) as again:
            return await again.by_id(schema_id)

    return Codec(ids, texts, runtime.topic_prefix, fetch)


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is None:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
