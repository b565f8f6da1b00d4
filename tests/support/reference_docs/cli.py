"""``docs/reference/cli.md``: every command with its help and its options."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from streams.cli import COMMANDS, cli, connection_options, main
from tests.support.reference_docs.markdown import code, page, plain, table

INTRO = """
`manifold COMMAND --help` prints the same. Every command takes the connection options as well; each
sets a setting ([settings.md](settings.md)), and `--env-file` reads settings from a file.
"""
_SHARED = {name for option in connection_options() for name in option.opts}


def document() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="manifold")
    overview = table(["command", "what it does"], [(code(n), d) for n, d in COMMANDS.items()])
    parts = [
        "## Overview\n",
        overview,
        "## Exit codes\n",
        table(["code", "meaning"], exit_codes()),
        "## Connection options\n",
        _options([*connection_options()]),
    ]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += _command(command, f"manifold {name}", 2)
    return page("Commands", INTRO, *parts)


def exit_codes() -> list[tuple[str, str]]:
    """Return the exit codes as the command line's own text says them."""
    text = " ".join((main.__doc__ or "").split())
    listed = text.partition("Exit codes: ")[2].rstrip(".")
    found = re.findall(r"(\d+) (.*?)(?:, (?=\d+ )|$)", listed)
    return [(number, meaning) for number, meaning in found]


def _command(command: click.Command, path: str, level: int) -> list[str]:
    parts = [f"{'#' * level} {path}\n", *_help(command.help or "")]
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            parts += _command(command.commands[name], f"{path} {name}", level + 1)
        return parts
    usage = " ".join(command.collect_usage_pieces(click.Context(command)))
    options = [o for o in command.params if isinstance(o, click.Option) and not o.hidden]
    own = [one for one in options if not _SHARED & set(one.opts)]
    parts.append(f"```\n{path} {usage}\n```\n")
    if own:
        parts.append(_options(own))
    return parts


def _help(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        marked, _, rest = paragraph.partition("\b\n")
        if rest:
            # click prints what follows the mark as it is: examples, tables
            title, _, lines = rest.partition("\n")
            yield f"{plain(title).strip()}\n\n```\n" + "\n".join(_unindented(lines)) + "\n```\n"
        else:
            yield plain(" ".join(marked.split())) + "\n"


def _unindented(text: str) -> list[str]:
    lines = text.rstrip().splitlines()
    least = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[least:] for line in lines]


def _options(options: list[click.Option]) -> str:
    rows = []
    for option in options:
        flags = ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))
        rows.append((flags, _kind(option), _default(option), option.help or ""))
    return table(["option", "value", "default", "what it does"], rows)


def _kind(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    kind = option.type
    if isinstance(kind, click.Choice):
        return ", ".join(code(one) for one in kind.choices)
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        what = "whole number" if isinstance(kind, click.IntRange) else "number"
        low = "" if kind.min is None else f"{kind.min:g}"
        high = "" if kind.max is None else f"{kind.max:g}"
        return f"{what}, {low} to {high}" if low and high else f"{what}, from {low}"
    known = {"integer": "whole number", "float": "number", "text": "text", "path": "path"}
    name = option.metavar or known.get(kind.name, kind.name)
    return f"{name}, repeatable" if option.multiple else name


def _default(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    value = option.default
    if option.required:
        return "required"
    if option.is_flag or option.multiple or value is None or callable(value):
        return ""
    text = str(value)
    return "" if "Sentinel" in text else code(text)
