"""The token is in nothing that anyone can read: output, errors, addresses, the list of processes.

The other side is the worst there can be: it sends back whatever it was sent, token included.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.process.child import free_port
from tests.support.certificates import certificate
from tests.support.environment import kept_environment
from tests.support.waiting import PATIENCE_S

TOKEN = "5ecre7t0ken5ecre7t0ken-5ecre7t0ken5ecre7t0ken"


class Echo:
    """A server that answers every request with its own bytes, and a status."""

    def __init__(self, status: str, head: str = "") -> None:
        self._status, self._head = status, head
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.asked: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            asked = connection.recv(65_536)
            self.asked.append(asked)
            text = asked.decode("latin-1").replace("\r\n", " ").replace('"', "'")
            body = f'{{"errorCode": "{text}", "errorMessage": "{text}"}}'.encode()
            head = f"HTTP/1.1 {self._status}\r\nContent-Length: {len(body)}\r\n{self._head}"
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)

    def close(self) -> None:
        self._socket.close()


def environment(**settings: str) -> dict[str, str]:
    kept = kept_environment()
    return (
        kept
        | {
            "OANDA_API_KEY": TOKEN,
            "OANDA_ACCOUNT_ID": "101-001-1234567-001",
            "OANDA_HTTP_RETRIES": "1",
            "OANDA_HTTP_BACKOFF": "1",
            "OANDA_HTTP_TIMEOUT_SEC": "1",
            "LOG_LEVEL": "DEBUG",
            "PYTHONASYNCIODEBUG": "1",
        }
        | settings
    )


COMMAND = [sys.executable, "-m", "streams", "feed", "oanda", "--json"]


def said_by(settings: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Run the feed to its end; return its code, its output and its line in the process list."""
    process = subprocess.Popen(
        COMMAND, env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    line = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output, line


@pytest.fixture(scope="module")
def echoes() -> Iterator[dict[str, Echo]]:
    made = {
        status: Echo(status, "Location: http://127.0.0.1:1/\r\n" if status[0] == "3" else "")
        for status in ("200 OK", "302 Found", "400 Bad Request", "401 No", "429 Less", "500 Oh")
    }
    yield made
    for echo in made.values():
        echo.close()


def test_whatever_the_other_side_says_the_token_is_not_repeated(echoes: dict[str, Echo]) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = dict(
            zip(
                echoes,
                pool.map(said_by, [{"OANDA_BASE_URL": echo.url} for echo in echoes.values()]),
                strict=True,
            )
        )
    for status, (code, output, line) in runs.items():
        assert TOKEN.encode() in b"".join(echoes[status].asked), "it was sent at all"
        for asked in echoes[status].asked:
            assert TOKEN.encode() not in asked.split(b"\r\n")[0], "not in the address"
        require_clean(output, line)
        assert code == (2 if status[0] in "34" and status[:3] != "429" else 75), (status, output)


def require_clean(output: bytes, line: bytes) -> None:
    assert TOKEN.encode() not in output + line
    assert b"Bearer 5" not in output
    assert b"Traceback" not in output, output
    assert output.count(b"manifold: ") == 1, output


def test_where_nobody_or_a_stranger_answers(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    nowhere = f"http://127.0.0.1:{free_port()}"
    cases = [
        {"OANDA_BASE_URL": nowhere},
        {"OANDA_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"},
        {"OANDA_BASE_URL": f"https://127.0.0.1:{silent.getsockname()[1]}"},
        {"OANDA_BASE_URL": f"https://u:{TOKEN}@127.0.0.1"},
        {"OANDA_API_KEY_FILE": str(tmp_path / "other"), "OANDA_API_KEY": TOKEN},
    ]
    (tmp_path / "other").write_text(TOKEN[::-1])
    with ThreadPoolExecutor(2) as pool:
        for settings, (code, output, line) in zip(cases, pool.map(said_by, cases), strict=True):
            require_clean(output, line)
            assert code in (2, 75), settings
            assert TOKEN[::-1].encode() not in output
    silent.close()


def test_a_certificate_of_no_authority_is_refused_with_a_sentence(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                if server.fileno() < 0:
                    return

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{server.getsockname()[1]}"
    # asyncio itself shows a traceback of the handshake when it debugs
    quiet = {"LOG_LEVEL": "INFO", "PYTHONASYNCIODEBUG": ""}
    code, output, line = said_by({"OANDA_BASE_URL": url} | quiet)
    server.close()
    require_clean(output, line)
    assert code == 2
    assert b"OANDA_BASE_URL" in output


def test_a_process_that_is_stopped_while_it_waits_says_nothing_of_it() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    settings = {
        "OANDA_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "OANDA_HTTP_TIMEOUT_SEC": "30",
    }
    process = subprocess.Popen(
        COMMAND, env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    connection, _ = silent.accept()
    assert TOKEN.encode() in connection.recv(65_536)
    time.sleep(0.2)
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert TOKEN.encode() not in output
    assert b"Traceback" not in output, output
    silent.close()
