"""``/status``, ``/metrics`` and ``/healthz`` of ``manifold run``, served from a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from streams.config.status_ports import status_access
from streams.errors import Fatal

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class HostPage:
    """Serves the last status that the supervisor's thread has set.

    Parameters
    ----------
    host, port
        Address; port 0 for no server.

    Raises
    ------
    Fatal
        The port is in use.
    """

    def __init__(self, host: str, port: int) -> None:
        self._access = status_access(host)
        self._shown: dict[str, Any] = {"phase": "starting", "well": False, "processes": []}
        self._server: ThreadingHTTPServer | None = None
        if not port:
            return
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except OSError as error:
            raise Fatal(
                f"RUN_STATUS_PORT={port} cannot be used on {host} ({error.strerror}); choose "
                "another, or 0 for none"
            ) from error
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def show(self, status: Mapping[str, Any]) -> None:
        """Set the status."""
        self._shown = dict(status)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            """Answers the three addresses."""

            timeout = 10.0

            def do_GET(self) -> None:
                status, path = page._shown, self.path.partition("?")[0]
                asked = (self.headers.get("Host", ""), self.headers.get("Authorization", ""))
                refused = page._access.refusal(path, *asked)
                if refused is not None:
                    content = {"error": refused.error, "detail": refused.detail}
                    self._answer(refused.status, "application/json", json.dumps(content).encode())
                elif path == "/metrics":
                    self._answer(200, METRICS_TYPE, metrics_of(status))
                elif path in ("/status", "/healthz"):
                    code = 200 if path == "/status" or status["well"] else 503
                    self._answer(code, "application/json", json.dumps(status).encode())
                else:
                    self._answer(404, "application/json", b'{"error":"not_found"}')

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log no requests."""

        return Handler


def process_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """Return the gauges of the processes: whether each runs, and how often it was restarted."""
    made: dict[str, Any] = {"labelnames": ["process"], "registry": registry}
    return (
        Gauge("manifold_process_running", "1 while the process runs", **made),
        Gauge("manifold_process_restarts", "Restarts since manifold run started", **made),
    )


def metrics_of(status: Mapping[str, Any]) -> bytes:
    """Return a status in the Prometheus text format."""
    registry = CollectorRegistry()
    running, restarts = process_gauges(registry)
    for process in status["processes"]:
        running.labels(process["name"]).set(int(process["running"]))
        restarts.labels(process["name"]).set(process["restarts"])
    return generate_latest(registry)
