"""Ports of servers: outside those that the machine gives to outgoing connections."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path

import pytest

from streams.errors import Fatal
from streams.process.child import (
    FIRST_PORT,
    LAST_PORT,
    USUAL_EPHEMERAL,
    Child,
    ephemeral_ports,
    ephemeral_warning,
    free_port,
    port_is_free,
    require_port,
)
from streams.process.supervise import Supervised
from tests.support.waiting import until

USUAL = range(FIRST_PORT, LAST_PORT + 1)


@pytest.mark.parametrize("text", ["", "many\n", "1 2 3\n", None])
def test_a_range_that_cannot_be_read_is_that_of_most_machines(
    tmp_path: Path, text: str | None
) -> None:
    setting = tmp_path / "range"
    if text is not None:
        setting.write_text(text)
    assert ephemeral_ports(setting) == USUAL_EPHEMERAL


def test_the_kernels_range_is_read(tmp_path: Path) -> None:
    setting = tmp_path / "range"
    setting.write_text("10000\t65535\n")
    assert ephemeral_ports(setting) == range(10_000, 65_536)


@pytest.mark.parametrize(
    ("ephemeral", "chosen"),
    [
        (range(32_768, 61_000), USUAL),
        (range(20_000, 31_000), range(31_000, LAST_PORT + 1)),
        (range(10_000, 65_536), range(1_024, 10_000)),
        (range(1_024, 60_000), range(60_000, 65_536)),
    ],
)
def test_a_free_port_lies_outside_the_outgoing_ones(ephemeral: range, chosen: range) -> None:
    for _ in range(20):
        assert free_port(ephemeral) in chosen


def test_without_any_other_port_an_outgoing_one_is_chosen_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert free_port(range(1_024, 65_536)) in USUAL
    assert "it may be in use when a server is started there again" in caplog.text


def test_this_machines_range_is_the_default() -> None:
    assert free_port() not in ephemeral_ports()


def test_a_chosen_port_among_the_outgoing_ones_is_named(tmp_path: Path) -> None:
    setting = tmp_path / "range"
    setting.write_text("19000 60999\n")
    said = ephemeral_warning({"--broker-port": 19_092, "API_PORT": 8_000}, setting)
    assert said.startswith("--broker-port 19092: within the ports 19000 to 60999")
    assert said.endswith("net.ipv4.ip_local_reserved_ports=19092)") and "8000" not in said
    assert ephemeral_warning({"API_PORT": 8_000}, setting) == ""


SERVER = """
import socket, sys
from streams.errors import Fatal
from streams.process.child import require_port
try:
    require_port(int(sys.argv[1]), "METRICS_PORT")
except Fatal as error:
    print(f"manifold: {error}", flush=True)
    sys.exit(error.exit_code)
print("serving", flush=True)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    server.accept()
"""


def test_a_port_in_use_after_a_restart_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has run finds its port taken: it is tried again, its supervisor goes on."""
    monkeypatch.setattr("streams.process.supervise.BACK_OFF_S", (0.0,))
    port = free_port()
    server = Supervised(
        Child("the server", [sys.executable, "-c", SERVER, str(port)], tmp_path / "log")
    )
    server.start()
    until(lambda: not port_is_free(port), server.child.last_output)
    server.child.kill()
    with socket.create_server(("127.0.0.1", port)):
        until(lambda: polled(server).restarts >= 2, server.child.last_output)
        until(lambda: server.child.returncode == 2, server.child.last_output)
        assert not server.failed
        assert f"port {port} is in use; METRICS_PORT needs it" in server.state
    until(lambda: polled(server).child.running and not port_is_free(port), server.child.last_output)
    server.stop()


def polled(server: Supervised) -> Supervised:
    server.poll()
    return server


def test_a_port_in_use_at_the_first_start_is_a_wrong_setting(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        server = Supervised(
            Child("the server", [sys.executable, "-c", SERVER, str(port)], tmp_path / "log")
        )
        server.start()
        until(lambda: server.child.returncode is not None, server.child.last_output)
        server.poll()
        assert server.failed and not server.restarts
        with pytest.raises(Fatal, match=f"port {port} is in use"):
            require_port(port, "the stack")
    server.stop()
