"""What ships for ``manifold run``: the systemd unit, the template of settings, the image."""

from __future__ import annotations

import configparser
import json
import shlex
from pathlib import Path

import pytest

from streams.cli import COMMANDS
from streams.cli.run import run
from streams.config.environment import read_env_file
from streams.config.groups import GROUPS
from streams.config.host import RunSettings
from streams.errors import Fatal
from streams.monitoring.doctor.setting_checks import known_names

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def unit() -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=True, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]
    read.read(ROOT / "deploy" / "systemd" / "manifold.service")
    return read


def test_the_unit_runs_a_host_and_reloads_it(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    program, command, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/manifold") and command == "run"
    context = run.make_context("run", ["--roles", "mirror"])
    known = {option for parameter in context.command.params for option in parameter.opts}
    assert set(arguments[::2]) <= known | {"--env-file"}
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillMode"] == "mixed", "it ends its processes itself, in order"


def test_the_unit_starts_it_again_unless_nothing_would_change(
    unit: configparser.ConfigParser,
) -> None:
    service = unit["Service"]
    assert service["Restart"] == "always"
    assert int(service["RestartPreventExitStatus"]) == Fatal.exit_code


def test_every_line_of_the_template_is_a_setting_that_is_accepted(tmp_path: Path) -> None:
    place = ROOT / "deploy" / "live.env"
    env = read_env_file(str(place))
    off = [
        line.removeprefix("# ").partition("=")[0]
        for line in place.read_text().splitlines()
        if line.startswith("# ") and "=" in line and line[2:3].isupper() and " " not in line[2:]
    ]
    assert {*env, *off} <= known_names(GROUPS)
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    filled = {name: str(secret) if name.endswith("_FILE") else text for name, text in env.items()}
    for group in GROUPS:
        group.from_env(filled)
    assert {role.name for role in RunSettings.from_env(filled).roles} >= {"feed", "trade"}


def test_the_image_runs_a_host_where_no_command_is_given() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    entry = json.loads(next(x for x in lines if x.startswith("ENTRYPOINT")).partition(" ")[2])
    command = json.loads(next(x for x in lines if x.startswith("CMD")).partition(" ")[2])
    assert entry == ["manifold"] and command == ["run"] and command[0] in COMMANDS
