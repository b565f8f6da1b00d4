"""The topics a migration copies, its result, and the steps after it. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Final

from streams.errors import Fatal
from streams.records.topics import CANDLES, CONTROL, FILLS, ORDERS, TOPICS

COPIED: Final = (CONTROL, ORDERS, FILLS, CANDLES)
"""The copied topics, in copy order."""
DERIVED: Final = tuple(name for name in TOPICS if name not in COPIED)
_LEGAL: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")


def check_prefixes(old: str, new: str) -> None:
    """Refuse a prefix that cannot be migrated to.

    Raises
    ------
    Fatal
        It is the old one, or not valid in a topic name.
    """
    if not _LEGAL.fullmatch(new):
        raise Fatal(
            f"--to-prefix {new!r} cannot begin a topic's name: use at most 100 letters, digits, "
            "'.', '_' and '-'"
        )
    if new == old:
        raise Fatal(f"--to-prefix {new!r} is the prefix of this deployment (TOPIC_PREFIX)")


@dataclass
class TopicCopy:
    """One topic: number of records under the old prefix, already there, and copied."""

    records: int = 0
    there: int = 0
    copied: int = 0


@dataclass
class Migration:
    """The result of a migration.

    Attributes
    ----------
    dry_run
        Whether it was a dry run.
    topics
        Topic, without prefix -> its records.
    complete
        Whether all records are under the new prefix, compared one by one.
    """

    old: str
    new: str
    dry_run: bool
    topics: dict[str, TopicCopy] = field(default_factory=dict)
    complete: bool = False

    @property
    def left(self) -> int:
        """Number of records not yet under the new prefix."""
        return sum(one.records - one.there - one.copied for one in self.topics.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "from_prefix": self.old,
            "to_prefix": self.new,
            "dry_run": self.dry_run,
            "complete": self.complete,
            "topics": {name: vars(one) for name, one in self.topics.items()},
            "next": next_steps(self.new) if self.complete else [],
        }


def next_steps(new: str) -> list[str]:
    """Return the operator's steps after a complete migration, in order."""
    prefix = shlex.quote(new)
    return [
        "keep every process of the old prefix stopped; also mirror, serve and kill keep, which "
        "share Valkey with the new one",
        f"set TOPIC_PREFIX={prefix} for every process; every other setting stays",
        "manifold worker (under its supervisor; manifold status shows when its lag is 0)",
        "manifold mirror --rebuild, then manifold mirror (its keys in Valkey have no prefix)",
        "manifold verify (exit code 0)",
        "manifold feed oanda, manifold serve",
        "manifold trade, when manifold status shows no lag: its /status shows the open positions "
        "and no difference",
        "manifold kill off --reason TEXT (the kill switch is engaged, as it was copied)",
    ]
