"""The local stack: broker, Valkey, topics, registry, and the roles of a host on top of them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from streams.config.environment import environment_names, setting_fields
from streams.config.groups import GROUPS
from streams.config.roles import FEED, MIRROR, ROLES, SERVE, TRADE, WORKER
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.errors import Fatal, Recoverable
from streams.kafka.control_topic import active_config, read_control
from streams.kafka.topics_admin import create_topics
from streams.monitoring.clock_check import require_clock
from streams.process.child import ephemeral_warning, require_port, require_space
from streams.process.disk import write_file
from streams.process.supervise import Supervised
from streams.records.codec import locked_codec
from streams.stack.embedded import EmbeddedBroker
from streams.stack.kafka import KafkaBroker
from streams.stack.processes import program, stop_in_order
from streams.stack.registry_server import RegistryServer
from streams.stack.valkey import ValkeyServer

BROKERS = ("embedded", "kafka")
MARKETS = ("synthetic", "oanda", "none")
SPACE_MIB = 256
SETTINGS = {"MARKET_CALENDAR": "continuous"}
"""Defaults of a local stack: its market trades at weekends."""
_CONNECTION = ("KAFKA_", "SCHEMA_REGISTRY_", "VALKEY_URL", "VALKEY_TLS_CA")


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the stack."""

    broker: int = 19092
    registry: int = 18081
    valkey: int = 16379
    metrics: int = 9108


@dataclass(frozen=True)
class StackPlan:
    """What to start.

    Attributes
    ----------
    broker
        ``embedded`` (memory only) or ``kafka`` (log on disk).
    directory
        Directory of data and logs; each kind of broker has its own folder in it.
    ports
        Where the servers listen.
    seed
        Seed of the synthetic market.
    start_ms
        Start of the market's first bar, unless the directory remembers an earlier one.
    bars
        Number of bars of the market; None: it continues in real time.
    market
        Source of candles: the synthetic market, OANDA, or none (files that are loaded).
    """

    broker: str
    directory: Path
    ports: Ports
    seed: int
    start_ms: int
    bars: int | None
    market: str = "synthetic"


class StackEnded(Recoverable):
    """The stack cannot continue; the message names the ended process and its last output."""


@dataclass
class Timings:
    """Seconds that each part of the start took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str, say: Callable[[str], None]) -> Iterator[None]:
        """Measure the duration of the block and print it."""
        begun = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - begun
        say(f"{what:<48} {self.seconds[what]:6.1f} s")


class Stack:
    """Starts, supervises and stops all processes of the stack.

    Processes are started on the thread that calls ``start`` and ``poll``: it must stay the same,
    because the kernel ends a child when the thread that made it ends.

    Parameters
    ----------
    plan
        What to start.
    environment
        The settings; connections in it are replaced by those of the stack.
    """

    def __init__(self, plan: StackPlan, environment: Mapping[str, str]) -> None:
        self.plan = plan
        self.directory = (plan.directory / plan.broker).absolute()
        self.timings = Timings()
        ports = plan.ports
        self.broker: EmbeddedBroker | KafkaBroker
        if plan.broker == "kafka":
            self.broker = KafkaBroker(self.directory / "broker", ports.broker)
        else:
            self.broker = EmbeddedBroker(self.directory / "broker", ports.broker)
        self.valkey = ValkeyServer(self.directory / "valkey", ports.valkey)
        self.connection = {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{ports.registry}",
            "VALKEY_URL": self.valkey.url,
        }
        kept = {k: v for k, v in environment.items() if not k.startswith(_CONNECTION)}
        self.environment = kept | self.connection | {"METRICS_PORT": str(ports.metrics)}
        if "API_TOKEN" not in kept and "API_TOKEN_FILE" not in kept:
            self.environment["API_TOKEN_FILE"] = str(self.token_file)
            _write_token(self.token_file)
        # a local stack always trades on paper, with any environment
        self.environment["TRADING_VENUE"] = "paper"
        self.runtime = Runtime.from_env(self.environment)
        self.config = Config.from_env(self.environment)
        self.service = Service.from_env(self.environment)
        self.trading = Trading.from_env(self.environment)
        self.environment["TRADE_STATUS_URL"] = (
            f"http://127.0.0.1:{self.trading.trade_status_port}/status"
        )
        self.registry = RegistryServer(ports.registry, self.runtime.topic_prefix)
        self.processes: dict[str, Supervised] = {}

    @property
    def durable(self) -> bool:
        """Whether the log survives the stack."""
        return self.plan.broker == "kafka"

    @property
    def live(self) -> bool:
        """Whether the market continues in real time: with service, page and executor."""
        return self.plan.bars is None

    @property
    def page_url(self) -> str:
        """URL of the page."""
        return f"http://127.0.0.1:{self.service.api_port}/"

    @property
    def token_file(self) -> Path:
        """File with the token for mutating calls, unless API_TOKEN is set."""
        return self.plan.directory.absolute() / "api.token"

    @property
    def env_file(self) -> Path:
        """A file for ``--env-file`` with which every other command connects to this stack."""
        return self.plan.directory / "stack.env"

    def start(self, say: Callable[[str], None]) -> None:
        """Start everything; ``say`` gets one line per part.

        Raises
        ------
        Fatal, Recoverable
            A port in use, no Java, no compiler, a full disk, or a part that does not start.
        """
        self._check(say)
        if not self.durable:
            # the log is lost with its broker, so data derived from it is removed too
            shutil.rmtree(self.directory, ignore_errors=True)
        require_space(self.directory, SPACE_MIB)
        say(f"logs and data in {self.plan.directory}{os.sep}")
        with self.timings.of(self.broker_name, say):
            self.broker.start()
        with self.timings.of("Valkey", say):
            self.valkey.start()
        with self.timings.of("schema registry", say):
            self.registry.start()
        with self.timings.of("topics", say):
            create_topics(self.runtime)
        if self.live:
            # all processes use one clock: only the log can show that it was set back
            require_clock(self.runtime, by_log=True)
        self._follow_calendar(say)
        arguments = self._arguments()
        with self.timings.of(", ".join(arguments), say):
            self._start_processes(arguments)
        write_file(self.env_file, self._env_text())

    @property
    def broker_name(self) -> str:
        """The broker as text."""
        if self.durable:
            return "Apache Kafka (log on disk)"
        return "embedded broker (memory only)"

    def poll(self) -> None:
        """Restart ended processes, with back-off.

        Raises
        ------
        StackEnded
            The broker or Valkey has ended, a process refuses its settings, or, on the embedded
            broker, worker or executor have ended: that broker shows records of unfinished
            transactions.
        """
        for server in (self.broker, self.valkey):
            if not server.child.running:
                raise StackEnded(
                    f"{server.child.name} ended with code {server.child.returncode}: "
                    f"{server.child.last_output()}"
                )
        writers = [self.processes[n].child for n in (WORKER, TRADE) if n in self.processes]
        for child in writers:
            if self.durable or child.running:
                continue
            raise StackEnded(
                f"{child.name} ended with code {child.returncode}: "
                f"{child.last_output(1)}. The embedded broker cannot abort what an "
                "unfinished transaction wrote, so the stack ends; 'manifold up --broker kafka' "
                "continues after a crash"
            )
        for name, process in self.processes.items():
            process.poll()
            if process.failed:
                raise StackEnded(f"the {name} refuses to run: {process.child.last_output(1)}")

    def stop(self) -> None:
        """Stop all processes, writers before readers."""
        stop_in_order(self.processes, {name: name for name in self.processes})
        self.registry.stop()
        for server in (self.valkey, self.broker):
            server.stop()
        if self.processes:
            self.env_file.unlink(missing_ok=True)

    def _check(self, say: Callable[[str], None]) -> None:
        ports = asdict(self.plan.ports)
        if self.live:
            ports |= {name: port for name, port in self.service.ports.items() if port}
            ports["TRADE_STATUS_PORT"] = self.trading.trade_status_port
        if len(set(ports.values())) != len(ports):
            raise Fatal(f"the ports of the stack must differ: {ports}")
        named = {n if n.isupper() else f"--{n}-port": port for n, port in ports.items()}
        for name, port in named.items():
            require_port(port, f"the stack ({name})")
        if warning := ephemeral_warning(named):
            say(warning)
        if shutil.which("g++") is None and shutil.which("c++") is None:
            raise Fatal("no C++ compiler: install g++ (the metrics core is compiled at start)")

    def _follow_calendar(self, say: Callable[[str], None]) -> None:
        """Continue with the calendar of an existing log.

        With other hours the same seed gives another random walk: prices would jump.
        """
        if not self.durable:
            return
        log = read_control(self.runtime, locked_codec(self.runtime.topic_prefix))
        active = active_config(log)
        if active is None or active.market_calendar == self.config.market_calendar:
            return
        name = active.market_calendar
        self.environment["MARKET_CALENDAR"] = name
        self.config = replace(self.config, market_calendar=name)
        say(
            f"the log was created with MARKET_CALENDAR={name}, and its market keeps it; "
            "for another calendar choose another --data-dir"
        )

    def _arguments(self) -> dict[str, list[str]]:
        """Return the processes to start: role -> arguments of ``manifold``."""
        names = [WORKER, MIRROR, *([SERVE, TRADE] if self.live else [])]
        found = {name: list(ROLES[name].command) for name in names}
        self._keep_market()
        if self.plan.market == "oanda":
            found[FEED] = list(ROLES[FEED].command)
        elif self.plan.market == "synthetic":
            found[FEED] = ["feed", "synthetic", "--seed", str(self.plan.seed)]
            found[FEED] += ["--start", f"@{self._market_start()}"]
            found[FEED] += ["--live"] if self.live else ["--bars", str(self.plan.bars)]
        return found

    def _start_processes(self, arguments: Mapping[str, list[str]]) -> None:
        for name, given in arguments.items():
            self.processes[name] = program(
                name,
                given,
                self.directory / f"{name}.log",
                self.environment,
                done_codes=(0,) if name == FEED else (),
            )
            self.processes[name].start()

    def _keep_market(self) -> None:
        """Store the kind of market of the log; a log never mixes synthetic and real candles.

        Raises
        ------
        Fatal
            The log in the directory has another one.
        """
        place = self.directory / "market.json"
        known = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None
        wanted = self.plan.market
        if known is None:
            if wanted != "synthetic":
                write_file(place, json.dumps({"market": wanted}))
            return
        market = known.get("market", "synthetic")
        if "synthetic" in (market, wanted) and market != wanted:
            raise Fatal(
                f"the log in {self.directory} was created with --market {market}, not {wanted}; "
                "use that option or choose another --data-dir"
            )
        if (market, wanted) == ("none", "oanda"):
            write_file(place, json.dumps({"market": wanted}))

    def _market_start(self) -> int:
        """Return the start of the market; a restarted stack continues its own."""
        place = self.directory / "market.json"
        wanted = {"seed": self.plan.seed, "start_ms": self.plan.start_ms}
        if place.is_file():
            found: dict[str, int] = json.loads(place.read_text(encoding="utf-8"))
            if found["seed"] != self.plan.seed:
                raise Fatal(
                    f"the log in {self.directory} holds the market of --seed {found['seed']}; "
                    "use that seed or choose another --data-dir"
                )
            return found["start_ms"]
        write_file(place, json.dumps(wanted))
        return self.plan.start_ms

    def _env_text(self) -> str:
        settings = {
            name: value
            for name, value in self.environment.items()
            if name in self.connection or name in _setting_names()
        }
        return "".join(f"{name}={value}\n" for name, value in sorted(settings.items()))


def stack_settings(environment: Mapping[str, str], market: str = "synthetic") -> dict[str, str]:
    """Return the environment with the defaults of a local stack.

    Parameters
    ----------
    environment
        The settings.
    market
        Real candles have the hours of a real market.
    """
    defaults = SETTINGS if market == "synthetic" else {}
    missing = {n: value for n, value in defaults.items() if not environment.get(n, "").strip()}
    return dict(environment) | missing


def _write_token(place: Path) -> None:
    """Create a token file that only this user can read, unless it exists."""
    if place.is_file():
        return
    require_space(place.parent, SPACE_MIB)
    write_file(place, secrets.token_urlsafe(32), mode=0o600)


def _setting_names() -> set[str]:
    """Return the content of the file for other commands: of secrets only their file paths."""
    items = [item for group in GROUPS for item in setting_fields(group)]
    secret = {f"{item.name.upper()}_FILE" for item in items if item.metadata["secret"]}
    plain = {n for item in items if not item.metadata["secret"] for n in environment_names(item)}
    # METRICS_PORT belongs to the worker
    return (plain | secret) - {"METRICS_PORT"}
