"""The ``manifold`` command; each subcommand is the module of its name, loaded when it is used."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from streams import __version__
from streams.cli.output import echo
from streams.config.environment import read_env_file
from streams.errors import Fatal, Recoverable
from streams.process.interrupts import redeliver_lost_interrupts
from streams.process.open_files import out_of_files, out_of_files_now

EXIT_INTERRUPTED = 130

COMMANDS: dict[str, str] = {
    "up": "Start the whole local stack and show it on one screen.",
    "run": "Run the processes of a host on a cluster, supervised as one.",
    "topics": "Create, list or check the topics; check a cluster.",
    "load": "Load candle files into the log.",
    "feed": "Run a candle source (OANDA, or the synthetic market).",
    "doctor": "Check the whole environment and name the fix for each problem.",
    "warmup": "Fill the log, wait for stages and mirror, and compare them.",
    "worker": "Run the stages: candles to signals, gates and weights.",
    "mirror": "Mirror the log into Valkey, or rebuild the mirror.",
    "serve": "Serve REST, WebSocket and the page; hold the kill switch's lease.",
    "tail": "Print the records of a topic as JSON.",
    "status": "Show consumer lag, gate decisions with reasons, and weights.",
    "why": "Explain why one instrument is, or is not, traded.",
    "replay": "Run the pipeline over candle files, or a range of the log (backtest).",
    "snapshot": "Compute the manifold of a range of candles and print it as JSON.",
    "report": "Write a report of decisions, trades and costs as one page.",
    "calibrate": "Show the pass rates of the guards; suggest thresholds.",
    "study": "Measure the effect of a setting over candle files.",
    "lookahead": "Test for look-ahead bias: truncate the input, derive again, compare.",
    "verify": "Re-derive every derived topic from the log and compare.",
    "trade": "Run the executor: send orders to a paper account or to OANDA.",
    "executor": "Show the executor's status.",
    "flatten": "Engage the kill switch and close every position of this account.",
    "pause": "Block opening and increasing in one instrument.",
    "resume": "Allow opening and increasing in an instrument again.",
    "close": "Close the position in one instrument now, or a part of it.",
    "order": "Send an order to the executor: reduce, or open where OPERATOR_ORDERS allows it.",
    "release": "Hand the position in one instrument over to the operator.",
    "limits": "Reset a loss limit.",
    "kill": "Engage, clear or show the kill switch; hold its lease in Valkey.",
    "migrate": "Migrate the deployment to another topic prefix.",
    "config": "Show the settings, or change those of the deployment.",
    "params": "Show or change the parameters of an instrument's backtest run.",
}
"""Command name -> one line; the module ``streams.cli.<name>`` holds a command of that name."""


def _set_environment(name: str) -> Any:
    def callback(_: click.Context, __: click.Parameter, value: str | None) -> None:
        if value is not None:
            os.environ[name] = value

    return callback


def _read_env_file(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is not None:
        for name, text in read_env_file(value).items():
            os.environ.setdefault(name, text)


def connection_options() -> list[click.Option]:
    """Return the options that every command takes; each sets its environment variable."""
    named = (
        (
            "--bootstrap-servers",
            "KAFKA_BOOTSTRAP_SERVERS",
            "127.0.0.1:9092",
            "Connect to these Kafka brokers: host:port, comma separated.",
        ),
        (
            "--registry-url",
            "SCHEMA_REGISTRY_URL",
            "ids of schemas/registry.lock.json",
            "Use the schema registry at this URL.",
        ),
        (
            "--valkey-url",
            "VALKEY_URL",
            "redis://127.0.0.1:6379/0",
            "Connect to Valkey at this URL.",
        ),
        (
            "--topic-prefix",
            "TOPIC_PREFIX",
            "none",
            "Prefix every topic, group and transactional id.",
        ),
    )
    options = [
        click.Option(
            [flag],
            expose_value=False,
            is_eager=True,
            callback=_set_environment(env),
            help=f"{text}  [env: {env}; default: {default}]",
        )
        for flag, env, default, text in named
    ]
    options.append(click.Option(["--env-file"], **_ENV_FILE))
    return options


_ENV_FILE: dict[str, Any] = {
    "expose_value": False,
    "is_eager": True,
    "callback": _read_env_file,
    "help": "Read settings from a file of NAME=value lines; environment variables take precedence.",
}


def read_env_file_option(*names: str) -> Callable[[Any], Any]:
    """Return the command decorator, with further names for the --env-file option."""
    return click.option(*names, **_ENV_FILE)


EXHAUSTED = {
    errno.ENOSPC: "the disk is full: free space and run the command again",
    errno.EDQUOT: "the disk quota is used up: free space and run the command again",
    errno.ENOMEM: "this machine has no memory left",
}
"""What an error of the operating system means, where no command says it better."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streams.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        for leaf in _leaves(command):
            known = {opt for param in leaf.params for opt in param.opts}
            leaf.params += [o for o in connection_options() if not known & set(o.opts)]
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # click would exit with 1, which here means a difference
            echo("manifold: interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _leaves(command: click.Command) -> list[click.Command]:
    if isinstance(command, click.Group):
        return [leaf for sub in command.commands.values() for leaf in _leaves(sub)]
    return [command]


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="manifold")
def cli() -> None:
    """An event-sourced stream processor for FX candles on a Kafka-compatible log.

    Settings come from the environment (`manifold config show` lists them all) or from a file given
    with --env-file.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; a product error becomes one sentence and an exit code.

    Exit codes: 0 done, 1 the answer is "no" (a difference, a drift), 2 wrong input or setting, 3
    done but some input was refused, 70 the process must be restarted, 75 an external service is
    temporarily unavailable, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # characters that the terminal's encoding lacks are escaped, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    redeliver_lost_interrupts()
    try:
        cli.main(args=args, prog_name="manifold", standalone_mode=True)
    except (Fatal, Recoverable) as error:
        # without a file descriptor, every server seems to be unavailable
        cause = out_of_files(error) or out_of_files_now()
        echo(f"manifold: {error}" + (f"; {cause}" if cause else ""), err=True)
        sys.exit(Recoverable.exit_code if cause else error.exit_code)
    except BrokenPipeError:
        # the reader of the output has closed the pipe (head, less): no error, and nothing to print
        # to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        said = _exhausted(error)
        if said is None:
            raise
        echo(f"manifold: {said}", err=True)
        sys.exit(Recoverable.exit_code)


def _exhausted(error: Exception) -> str | None:
    """Return which resource of the machine is used up; None for another error."""
    if (said := out_of_files(error)) is not None:
        return said
    if not isinstance(error, OSError) or error.errno not in EXHAUSTED:
        return None
    return EXHAUSTED[error.errno] + (f" ({error.filename})" if error.filename else "")
