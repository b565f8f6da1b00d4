"""The command line: help with examples, and one sentence and a code where something is wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

from streams.cli import COMMANDS, cli
from streams.errors import Fatal, Recoverable
from streams.kafka.errors import call_broker
from streams.process.child import free_port
from tests.support.environment import kept_environment
from tests.support.waiting import PATIENCE_S


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = kept_environment()
    return subprocess.run(
        [sys.executable, "-m", "streams", *arguments],
        env=kept | {"METRICS_PORT": "0"} | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says what is wrong."""
    assert "Traceback" not in done.stderr + done.stdout
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize("command", [(name,) for name in COMMANDS])
def test_every_command_explains_itself_with_examples(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli, [*command, "--help"])
    assert shown.exit_code == 0
    if "Commands:" not in shown.output:
        assert "Examples:" in shown.output
        assert "--bootstrap-servers" in shown.output


@pytest.mark.parametrize("group", ["topics", "feed", "config"])
def test_every_command_of_a_group_explains_itself_with_examples(group: str) -> None:
    command = cli.get_command(None, group)  # type: ignore[arg-type]
    for name in command.commands:  # type: ignore[union-attr]
        shown = CliRunner().invoke(cli, [group, name, "--help"])
        assert shown.exit_code == 0
        assert "Examples:" in shown.output, f"{group} {name}"


def test_the_command_itself_lists_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    assert all(f"  {name} " in shown.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TOPIC_PARTITIONS", "many"),
        ("TOPIC_PARTITIONS", "0"),
        ("TOPIC_PARTITIONS", "1_2"),
        ("SESSION_TIMEOUT_SEC", "nan"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: str) -> None:
    done = run("status", **{setting: value})
    assert done.returncode == 2
    assert setting in sentence(done)


def test_without_a_broker_it_is_something_outside_that_is_not_there() -> None:
    address = f"127.0.0.1:{free_port()}"
    commands = ("status", "why EUR_USD", "verify", "worker")

    def tried(command: str) -> subprocess.CompletedProcess[str]:
        return run(*command.split(), KAFKA_BOOTSTRAP_SERVERS=address)

    # each waits for the broker a while before it gives up
    with ThreadPoolExecutor(len(commands)) as at_once:
        for command, done in zip(commands, at_once.map(tried, commands), strict=True):
            assert done.returncode == 75, command
            assert address in sentence(done), command


def test_an_env_file_that_is_not_there_or_not_of_the_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.env"
    missing = run("status", "--env-file", str(path))
    assert missing.returncode == 2
    assert str(path) in sentence(missing)
    path.write_text("TOPIC_PREFIX=a.\nthis is no setting\n")
    bad = run("status", "--env-file", str(path))
    assert bad.returncode == 2
    assert f"{path}:2" in sentence(bad)


def test_the_environment_wins_over_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / "good.env"
    path.write_text("TOPIC_PARTITIONS=of-the-file\n")
    arguments = ["status", "--env-file", str(path)]
    assert "of-the-file" in sentence(run(*arguments))
    assert "of-the-environment" in sentence(run(*arguments, TOPIC_PARTITIONS="of-the-environment"))


def test_a_topic_that_is_none_of_ours_is_answered_with_the_list() -> None:
    done = run("tail", "md.candle")
    assert done.returncode == 2
    assert "md.candles" in sentence(done)


@pytest.mark.parametrize(
    "command",
    [("flatten",), ("kill", "on"), ("kill", "off"), ("config", "set", "ALLOC_TOP_K=4")],
    ids=" ".join,
)
def test_a_word_can_be_said_where_the_user_has_no_name(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under a number."""

    def nobody(_: int) -> None:
        raise KeyError("no such user")

    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr("streams.kafka.errors.CONNECT_SEC", 0.1)
    said = CliRunner().invoke(cli, [*command, "--reason", " "])
    assert isinstance(said.exception, Fatal | Recoverable), said.exception


def test_a_terminal_that_cannot_spell_a_setting_shows_it_escaped() -> None:
    # the letter is one that every language of make dates can write
    done = run(*("config", "show"), KAFKA_BOOTSTRAP_SERVERS="kursü:9092", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "kurs\\xfc:9092" in done.stdout


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ],
)
def test_while_leaders_change_a_question_is_asked_again(code: int) -> None:
    answers: list[KafkaException | str] = [
        KafkaException(KafkaError(code)),
        KafkaException(KafkaError(code)),
        "the answer",
    ]

    def ask() -> str:
        found = answers.pop(0)
        if isinstance(found, KafkaException):
            raise found
        return found

    assert call_broker("broker:9092", ask) == "the answer"
    answers[:] = [KafkaException(KafkaError(code))]
    with pytest.raises(Recoverable, match="broker:9092 are changing leaders"):
        call_broker("broker:9092", ask, -1.0)


@pytest.mark.parametrize("option", ["--gap-permille", "--quiet"])
def test_the_former_name_of_an_option_is_accepted_but_not_shown(option: str) -> None:
    group = cli.get_command(click.Context(cli), "feed")
    assert isinstance(group, click.Group)
    command = group.commands["synthetic"]
    for arguments in ([option, "30"], [option, "30", "--late", "1"]):
        assert command.make_context("synthetic", arguments).params["gap_permille"] == 30
    assert command.make_context("synthetic", []).params["gap_permille"] == 20
    shown = CliRunner().invoke(cli, ["feed", "synthetic", "--help"]).output
    assert "--gap-permille" in shown and "--quiet" not in shown
