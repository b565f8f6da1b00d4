"""``docs/reference/settings.md``: every setting with its default, unit and limits."""

from __future__ import annotations

from dataclasses import MISSING, Field
from typing import Any, get_type_hints

from streams.config.environment import (
    FromEnvironment,
    environment_names,
    setting_fields,
    setting_text,
)
from streams.config.groups import LIVE_GROUPS
from streams.config.runtime import Runtime
from streams.config.settings import Config
from tests.support.reference_docs.markdown import code, page, plain, table

INTRO = """
A setting is an environment variable, or a line `NAME=value` of a file given with `--env-file` (the
environment takes precedence). An empty value means "not set". `manifold config show` prints the
active values. A secret can be given as `NAME_FILE`, the path of a file with it. Names in one row
mean the same setting.

Settings of the first group can change a derived record. They are a record in `ops.control`, and
`config_id` is their hash: change them with `manifold config set`
([configuration.md](../configuration.md)). Each process reads all others from its own
environment. Variables that are not read: [unused-variables.md](../unused-variables.md).
"""
COMPUTED = {"tzdata_version": "installed version", "worker_id": "host name"}


def document() -> str:
    """Return the page."""
    groups = {"results": Config, "connections, names, limits": Runtime}
    groups |= {name.replace("_", " "): group for name, group in LIVE_GROUPS.items()}
    parts = []
    for title, group in groups.items():
        first = (group.__doc__ or "").strip().splitlines()[0]
        parts += [f"## {title[0].upper()}{title[1:]}\n", plain(first) + "\n", _group(group)]
    return page("Settings", INTRO, *parts)


def _group(group: type[FromEnvironment]) -> str:
    hints = get_type_hints(group)
    rows = [
        (
            ", ".join(code(name) for name in environment_names(item)),
            _default(item),
            item.metadata["unit"],
            _accepted(item, hints[item.name]),
            item.metadata["doc"],
        )
        for item in setting_fields(group)
    ]
    return table(["setting", "default", "unit", "values", "what it is"], rows)


def _default(item: Field[Any]) -> str:
    if item.default is MISSING:
        return COMPUTED[item.name]
    shown = code(setting_text(item.default)) or "none"
    return f"{shown} (secret)" if item.metadata["secret"] else shown


def _accepted(item: Field[Any], hint: Any) -> str:
    if item.metadata["choices"]:
        return ", ".join(code(one) for one in item.metadata["choices"])
    if item.metadata["bounds"]:
        low, high = item.metadata["bounds"]
        return f"{low:,g} to {high:,g}"
    return "0 or 1" if hint is bool else ""
