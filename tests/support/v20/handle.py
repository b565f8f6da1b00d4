"""How a test holds a broker: its addresses, and its control API as methods."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.support.waiting import PATIENCE_S

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]


class Handle:
    """A broker that runs."""

    port: int
    token: str
    account_id: str

    @property
    def url(self) -> str:
        """Address of the REST API, without ``/v3``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        """Address of the streams, without ``/v3``; the same server."""
        return self.url

    def environment(self) -> dict[str, str]:
        """Return the settings with which the product talks to this broker."""
        return {
            "OANDA_API_KEY": self.token,
            "OANDA_ACCOUNT_ID": self.account_id,
            "OANDA_ENVIRONMENT": "practice",
            "OANDA_BASE_URL": self.url,
            "OANDA_STREAM_URL": self.stream_url,
        }

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Make one request on a connection of its own; return status and JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = None if body is None else json.dumps(body)
            kept = {"Content-Type": "application/json"} if sent is not None else {}
            connection.request(method, path, sent, kept | (headers or {}))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        return response.status, json.loads(text) if text else None

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Make a request of the API; ``path`` after ``/v3``, ``{account}`` is the first account."""
        where = "/v3" + path.replace("{account}", self.account_id)
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.call(method, where, body, {"Authorization": f"Bearer {self.token}"} | named)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use the control API; ``path`` after ``/control``.

        Raises
        ------
        ValueError
            When the broker refuses.
        """
        status, answer = self.call(method, f"/control{path}", body)
        if status >= 400:
            raise ValueError(answer["error"] if isinstance(answer, dict) else answer)
        return answer

    def state(self) -> Json:
        """Return everything the broker knows."""
        found: Json = self.control("GET", "/state")
        return found

    def account(self) -> Json:
        """Return what the broker knows of the first account."""
        found: Json = self.state()["accounts"][self.account_id]
        return found

    def requests(self, path: str = "") -> list[Json]:
        """Return the requests so far whose path contains a text."""
        return [r for r in self.control("GET", "/requests") if path in r["path"]]

    def violations(self) -> list[Json]:
        """Return what broke OANDA's description; empty where the description is not at hand."""
        found: list[Json] = self.control("GET", "/violations")
        return found

    def fault(self, kind: str, **parameters: Any) -> int:
        """Set a fault; return its id."""
        return int(self.control("POST", "/faults", {"kind": kind} | parameters)["id"])

    def faults(self) -> list[Json]:
        """Return the faults that are set."""
        found: list[Json] = self.control("GET", "/faults")
        return found

    def clear_faults(self) -> None:
        """Take every fault away."""
        self.control("DELETE", "/faults")

    def advance(self, seconds: float) -> str:
        """Move the clock; return the broker's time."""
        return str(self.control("POST", "/clock", {"advance_sec": seconds})["time"])

    def price(self, instrument: str, bid: str, ask: str, hold: bool = True) -> None:
        """Place a price by hand."""
        body = {"instrument": instrument, "bid": bid, "ask": ask, "hold": hold}
        self.control("POST", "/prices", body)

    def release(self, instrument: str) -> None:
        """Let the market make the instrument's prices again."""
        self.control("POST", "/prices", {"instrument": instrument, "release": True})

    def drop(self, reset: bool = False) -> int:
        """End every connection of a client; return how many there were."""
        return int(self.control("POST", "/drop", {"reset": reset})["dropped"])

    def halt(self, *instruments: str, halted: bool = True) -> None:
        """Halt instruments, or all."""
        self.control("POST", "/halt", {"instruments": list(instruments), "halted": halted})

    def delist(self, *instruments: str, delisted: bool = True) -> None:
        """Take instruments from the account; what is open in them stays."""
        self.control("POST", "/delist", {"instruments": list(instruments), "delisted": delisted})

    def end_order(self, order_id: str, reason: str) -> None:
        """Let the broker itself end a pending order."""
        self.control("POST", "/cancel", {"order": order_id, "reason": reason})

    def transfer(self, amount: str) -> None:
        """Move money into the first account, or out of it when negative."""
        self.control("POST", "/transfer", {"amount": amount})

    def rotate(self, token: str) -> None:
        """Accept that token from now on and no other; this handle keeps using it."""
        self.control("POST", "/token", {"token": token})
        self.token = token

    def start(self) -> Self:
        """Start."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class V20Process(Handle):
    """A broker as a process of its own, which can be killed and started again.

    Parameters
    ----------
    options
        As ``Options``, by name.
    """

    def __init__(self, **options: Any) -> None:
        self.given = options
        self._process: subprocess.Popen[str] | None = None
        self.token = str(options.pop("token", ""))
        self.port = int(options.pop("port", 0))

    def start(self) -> Self:
        """Start; on the port and with the token of before when it ran before."""
        command = [sys.executable, "-m", "tests.support.v20", "--port", str(self.port)]
        for name, value in self.given.items():
            option = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                command += [option] if value else []
            else:
                text = ",".join(value) if isinstance(value, (tuple, list)) else str(value)
                command += [f"{option}={text}"]
        environment = os.environ | ({"V20_TOKEN": self.token} if self.token else {})
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the test broker ended with {self._process.wait()}")
        said = json.loads(line)
        self.port, self.token, self.account_id = said["port"], said["token"], said["account_id"]
        return self

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
