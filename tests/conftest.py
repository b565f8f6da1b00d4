"""Real servers for the tests, started once a run, and what is said when one cannot be had.

A test that needs Kafka, the registry or the embedded broker asks for the fixture. Where the server
cannot be had the test is skipped, the end of the run names every test that did not run and why,
and with CI=true that is a failure.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from streams.errors import Fatal
from streams.stack.embedded import EmbeddedBroker
from streams.stack.kafka import QUICK_JVM, KafkaBroker
from streams.stack.valkey import DATABASES, ValkeyServer
from tests.support.apicurio import ApicurioRegistry
from tests.support.shared_servers import SharedServers, port_of

# a Java program of a test runs for seconds or minutes: the second compiler costs more than it saves
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

# how fast examples come says something of the machine, nothing of the code
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# a shell starts what is to run in the background deaf to Ctrl-C, and so are its children
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
MISSING: dict[str, str] = {}
NOTES: list[str] = []
SHARED = pytest.StashKey[SharedServers]()

SPREAD = {
    *("test_execution_faults", "test_holes", "test_kills", "test_live_loop_kills"),
    *("test_lost_commits", "test_takeover", "test_whole_chain", "test_stack", "test_stopping"),
    "test_executor_closing",
}
"""Files whose tests run in whichever process is free."""


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """A directory for servers' data, removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="manifold-tests-"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def cannot_be_had(what: str, why: str) -> NoReturn:
    """Skip the test; with CI=true that fails the run."""
    MISSING[what] = why
    pytest.skip(f"{what} cannot be had: {why}")


def program(*names: str) -> str:
    """Return the path of the first of these programs that is there; skip the test without any."""
    for name in names:
        if (found := shutil.which(name)) is not None:
            return found
    cannot_be_had(names[0], f"there is no {names[0]} on PATH; run: deploy/setup.sh test")


def _started(server: Any, what: str) -> Iterator[Any]:
    if what in MISSING:
        cannot_be_had(what, MISSING[what])
    try:
        server.start()
    except Fatal as error:
        cannot_be_had(what, str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka(run_directory: Path, request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    """A real Apache Kafka, shared by the run; use ``topic_prefix`` to be alone on it."""
    given = getattr(request.config, "workerinput", None)
    if given is None:
        yield from _started(_quick_kafka(run_directory / "kafka"), "Apache Kafka")
        return
    try:
        port = port_of(given["shared_servers"], "kafka", int(given["workerid"].removeprefix("gw")))
    except Fatal as error:
        cannot_be_had("Apache Kafka", str(error))
    yield KafkaBroker(run_directory / "kafka", port)


def _quick_kafka(directory: Path) -> KafkaBroker:
    return KafkaBroker(directory, jvm=QUICK_JVM)


@pytest.fixture
def new_kafka(kafka: KafkaBroker, tmp_path: Path) -> Iterator[Callable[[], KafkaBroker]]:
    """Start further brokers, for tests that kill theirs."""
    made: list[KafkaBroker] = []

    def start() -> KafkaBroker:
        made.append(_quick_kafka(tmp_path / f"kafka{len(made)}"))
        made[-1].start()
        return made[-1]

    yield start
    for broker in made:
        broker.stop()


@pytest.fixture(scope="session")
def valkey(run_directory: Path) -> Iterator[ValkeyServer]:
    """A real Valkey, shared by the run; use ``valkey_url`` to be alone on it."""
    yield from _started(ValkeyServer(run_directory / "valkey"), "Valkey")


@pytest.fixture
def new_valkey(tmp_path: Path) -> Iterator[Callable[[], ValkeyServer]]:
    """Start further Valkeys, for tests that kill theirs."""
    made: list[ValkeyServer] = []

    def start() -> ValkeyServer:
        made.append(ValkeyServer(tmp_path / f"valkey{len(made)}"))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def new_database(valkey: ValkeyServer) -> Callable[[], str]:
    """Return the address of a database of the shared Valkey that nobody has used."""
    numbers = iter(range(1, DATABASES))
    return lambda: valkey.url.removesuffix("/0") + f"/{next(numbers)}"


@pytest.fixture
def valkey_url(new_database: Callable[[], str]) -> str:
    """An empty database of the shared Valkey."""
    return new_database()


@pytest.fixture(scope="session")
def registry(run_directory: Path) -> Iterator[ApicurioRegistry]:
    """A real schema registry with the Confluent API."""
    yield from _started(ApicurioRegistry(run_directory / "registry"), "the Apicurio registry")


@pytest.fixture(scope="session")
def embedded_broker(run_directory: Path) -> Iterator[EmbeddedBroker]:
    """The embedded broker, shared by the run."""
    yield from _started(EmbeddedBroker(run_directory / "embedded"), "the embedded broker")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser that the page is tested in."""
    return program("chromium", "chromium-browser")


@pytest.fixture
def topic_prefix() -> str:
    """A prefix of this test's own, for topics, groups and transactional ids."""
    return f"t{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="session")
def shared_data() -> Path | None:
    """The directory of recorded OANDA candles, None where it is not there (and that is said)."""
    if SHARED_DATA.is_dir():
        return SHARED_DATA
    note = "recorded candles are not here: the tests used seeded synthetic candles instead"
    if note not in NOTES:
        NOTES.append(note)
    return None


# before xdist reads the groups
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests in one process of a parallel run, where they share what it started.

    The tests of the files named in ``SPREAD`` take long and share nothing of their module.
    """
    for item in items:
        if item.path.stem not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest and xdist that do not keep a file's tests in one process.

    Nothing would fail by that, but a run would take twice as long.
    """
    grouped = session.config.getoption("loadgroup", False) and session.items
    if grouped and not any("@" in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist and this pytest keep no group of tests together")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name every test that did not run, with the reason, and say what else is to be known."""
    skipped = terminalreporter.getreports("skipped")
    if not (skipped or NOTES):
        return
    terminalreporter.section("not run")
    for report in skipped:
        terminalreporter.line(f"{report.nodeid}: {reason_of(report)}")
    for note in NOTES:
        terminalreporter.line(note)


def reason_of(report: Any) -> str:
    """Return why a report says that its test, or its whole file, was skipped."""
    said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(said).removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    """Have servers ready for the processes of a parallel run."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.stash[SHARED] = SharedServers({"kafka": _quick_kafka})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of a parallel run where to ask for servers."""
    node.workerinput["shared_servers"] = node.config.stash[SHARED].address


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers."""
    if (servers := config.stash.get(SHARED, None)) is not None:
        servers.close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With CI=true a server that could not be had fails the run."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: the one that prints the end must know
        output["missing"], output["notes"] = MISSING, NOTES
    elif MISSING and os.environ.get("CI") == "true" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Take over what a process of a parallel run could not have."""
    output = getattr(node, "workeroutput", {})
    MISSING.update(output.get("missing", {}))
    NOTES.extend(note for note in output.get("notes", ()) if note not in NOTES)
