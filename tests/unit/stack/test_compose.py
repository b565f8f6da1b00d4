"""The compose file keeps to the commands, settings and ports of the code, and mounts what is there.

No container is started. Where a ``docker-compose`` is on PATH (Debian's package, as in CI) it reads
the file too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from streams.cli import cli
from streams.config.environment import environment_names, read_env_file, setting_fields
from streams.config.feeds import FeedSettings
from streams.config.groups import GROUPS
from streams.config.runtime import Runtime
from streams.config.service import Service
from streams.config.settings import Config
from streams.config.trading import Trading
from streams.monitoring.doctor.setting_checks import known_names
from tests.conftest import program

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "redpanda-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if "manifold-streams" in one["image"]}
PROFILES = ("synthetic", "oanda")
PROMETHEUS = ROOT / "deploy" / "prometheus"
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")

PROFILE_VARIABLES = (
    "HOTBAND_PAIRS", "AUTO_MIN_COHERENCE", "AUTO_MAX_ENTROPY", "AUTO_MAX_RUPTURE",
    "GUARD_MIN_STABILITY", "HYSTERESIS_DEFAULT", "HYSTERESIS_PAIR_JSON",
    "SESSION_TRADING_ENABLED", "SESSION_PATTERN_MIN_OCCURRENCES",
    "EVAL_INTERVAL_SEC", "EVAL_MIN_TRADES", "EVAL_CALMAR_MIN", "EVAL_PNL_MIN",
    "ALLOC_INTERVAL_SEC", "ALLOC_TOP_K", "ALLOC_W_C", "ALLOC_W_STAB",
    "ALLOC_W_RUP", "ALLOC_W_ENT", "RISK_ALLOC_TARGET_PCT", "PM_MAX_PER_POS_PCT",
)  # fmt: skip
"""The environment of the system profile."""
PASSED = {name for name, value in COMPOSE["x-settings"].items() if value is None}
"""What a service takes from the shell or from the ``--env-file``."""


def environment(service: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """Return what a container of a service has, of what the shell has."""
    found = {n: given.get(n) if v is None else v for n, v in service["environment"].items()}
    return {name: value for name, value in found.items() if value is not None}


def test_the_services_of_the_profile_are_there() -> None:
    wanted = {"topics", "worker", "mirror", "keeper", "serve", "trade", "feed", "feed-oanda"}
    assert OURS.keys() == wanted
    assert SERVICES.keys() - OURS.keys() == {
        "redpanda-0", "console", "valkey", "prometheus", "grafana"
    }  # fmt: skip
    assert {one: OURS[one]["profiles"] for one in OURS if "profiles" in OURS[one]} == {
        "feed": ["synthetic"], "feed-oanda": ["oanda"]
    }  # fmt: skip
    assert OURS["trade"]["command"] == ["trade", "--venue", "paper"]


@pytest.mark.parametrize("name", OURS)
def test_every_command_parses(name: str) -> None:
    command: click.Command = cli
    words = [str(word) for word in OURS[name]["command"]]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, OURS[name]["command"]
        command = found
    with command.make_context(name, words) as context:
        assert not context.args


def test_every_variable_of_the_profile_is_passed_in() -> None:
    assert PASSED.issuperset(PROFILE_VARIABLES)


def test_every_setting_is_passed_in_or_set() -> None:
    """A secret is a file; what says where something is, is the compose file's own."""
    fixed = re.compile(
        "(KAFKA|SCHEMA_REGISTRY|VALKEY_(URL|TLS)|METRICS|TRADE_STATUS|TRADING_VENUE|LIVE_TRADING|RUN_|"
        "WORKER_(ID|METRICS_URLS)|API_(HOST|PORT|METRICS_PORT)|WS_PORT|(ALLOCATOR|HYDRATOR)_STATUS|"
        "(FEED|MIRROR)_METRICS_PORT|OANDA_API_KEY)"
    )
    names = {
        name
        for group in GROUPS
        for item in setting_fields(group)
        if not item.metadata["secret"]
        for name in environment_names(item)
    }
    assert {name for name in names if not fixed.match(name)} == PASSED


@pytest.mark.parametrize("name", OURS)
def test_every_name_is_a_setting_of_ours(name: str) -> None:
    assert not set(OURS[name]["environment"]) - known_names(GROUPS)
    for one in OURS[name]["environment"].values():
        assert one is None or isinstance(one, str), "compose takes texts"


@pytest.mark.parametrize("env_file", ["", "deploy/profiles/demo.env", "deploy/compose/oanda.env"])
@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_read_as_they_stand(name: str, env_file: str, tmp_path: Path) -> None:
    given = read_env_file(str(ROOT / env_file)) if env_file else {}
    assert not given.keys() - PASSED, "compose would not pass it in"
    found = environment(OURS[name], given)
    for secret in ("API_TOKEN_FILE", "METRICS_TOKEN_FILE", "OANDA_API_KEY_FILE"):
        if secret in found:
            assert found[secret].removeprefix("/run/secrets/") in OURS[name]["secrets"]
            (tmp_path / secret).write_text("t" * 32, encoding="utf-8")
            found[secret] = str(tmp_path / secret)
    for group in GROUPS:
        group.from_env(found)
    if name == "serve":
        assert not Service.from_env(found).loopback, "a port of a container is not on loopback"


def test_the_demo_trades_and_oanda_does_not_see_its_calendar() -> None:
    demo = environment(OURS["trade"], read_env_file(str(ROOT / "deploy/profiles/demo.env")))
    assert (demo["KILL_SWITCH"], Config.from_env(demo).market_calendar) == ("0", "continuous")
    live = environment(OURS["feed-oanda"], read_env_file(str(ROOT / "deploy/compose/oanda.env")))
    assert "KILL_SWITCH" not in live and Config.from_env(live).market_calendar == "fx"


def test_ports_of_this_machine_are_on_loopback() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_what_is_published_scraped_and_asked_is_where_the_code_listens() -> None:
    listens = {
        "worker": {Runtime().metrics_port},
        "serve": {Service().api_port, Service().ws_port},
        "trade": {Trading().trade_status_port},
        "feed-oanda": {FeedSettings().feed_metrics_port},
    }
    for name, numbers in listens.items():
        assert {int(port.rpartition(":")[2]) for port in OURS[name]["ports"]} == numbers
        asked = re.findall(r"http://127\.0\.0\.1:(\d+)/", str(OURS[name]["healthcheck"]["test"]))
        assert {int(port) for port in asked} <= numbers
    listens["serve"].add(int(OURS["serve"]["environment"]["API_METRICS_PORT"]))
    listens["mirror"] = {int(OURS["mirror"]["environment"]["MIRROR_METRICS_PORT"])}
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = {
        tuple(target.split(":"))
        for job in settings["scrape_configs"]
        for group in job.get("static_configs", ())
        for target in group["targets"]
    } | {
        (name, str(group["port"]))
        for job in settings["scrape_configs"]
        for group in job.get("dns_sd_configs", ())
        for name in group["names"]
    }
    for name, port in scraped - {("redpanda-0", "9644")}:
        assert int(port) in listens[name]
    assert {name for name, _ in scraped} >= listens.keys()
    assert COMPOSE["x-settings"]["TRADE_STATUS_URL"] == "http://trade:8120/status"
    feed = read_env_file(str(ROOT / "deploy/compose/oanda.env"))["FEED_METRICS_URL"]
    assert feed == f"http://feed-oanda:{FeedSettings().feed_metrics_port}/metrics"


def test_what_is_mounted_needed_and_named_is_there() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            there = (ROOT / source).exists() if source[0] == "." else source in COMPOSE["volumes"]
            assert there, f"{name}: {mount}"
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
    for one in (OURS["feed"], OURS["feed-oanda"]):
        needed = set(one["depends_on"])
        assert not any("profiles" in SERVICES[name] for name in needed)


def test_valkey_evicts_nothing() -> None:
    command = SERVICES["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"
    default = VARIABLE.fullmatch(command[command.index("--maxmemory") + 1])
    assert default is not None and default[2] == "1gb"


def test_prometheus_and_grafana_find_what_they_are_given(tmp_path: Path) -> None:
    # the token's file exists in the container only
    (tmp_path / "token").write_text("secret", encoding="utf-8")
    config = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    config = config.replace("/run/secrets/metrics-token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(config, encoding="utf-8")
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    done = subprocess.run(
        [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    count = (PROMETHEUS / "rules.yml").read_text(encoding="utf-8").count("- alert: ")
    assert f"{count} rules found" in done.stdout
    mounted = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    [source] = _yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["isDefault"]
    [provider] = _yaml(provisioning / "dashboards" / "manifold.yml")["providers"]
    board = mounted["./deploy/grafana/manifold.json"]
    assert str(Path(board).parent) == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == board


def _yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_compose_itself_reads_the_file(profile: str, tmp_path: Path) -> None:
    compose = program("docker-compose")
    # the first generation, which Debian has, knows no name of a project
    plain = re.sub(r"(?m)^name: .*\n", "", FILE.read_text(encoding="utf-8"))
    file = tmp_path / "compose.yml"
    file.write_text(plain, encoding="utf-8")
    env_file = {"synthetic": "deploy/profiles/demo.env", "oanda": "deploy/compose/oanda.env"}
    done = subprocess.run(
        [
            compose, "--file", str(file), "--project-directory", str(ROOT),
            "--env-file", str(ROOT / env_file[profile]), "--profile", profile, "config",
        ],
        env={"PATH": os.environ["PATH"], "AUTO_MAX_ENTROPY": "0.81"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)["services"]
    assert read.keys() == SERVICES.keys()
    for name in OURS:
        assert read[name]["environment"]["AUTO_MAX_ENTROPY"] == "0.81"
        assert read[name]["environment"]["VALKEY_URL"] == "redis://valkey:6379/0"
    coherence = read["worker"]["environment"]["AUTO_MIN_COHERENCE"]
    assert coherence == {"synthetic": "0.3591", "oanda": None}[profile]
