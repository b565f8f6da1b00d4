"""What a migration copies, what it came to, and what is to be done after it. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Final

from streams.errors import Fatal
from streams.records.topics import CANDLES, CONTROL, FILLS, ORDERS, TOPICS

COPIED: Final = (CONTROL, ORDERS, FILLS, CANDLES)
"""The topics of facts, in the order in which they are copied."""
DERIVED: Final = tuple(name for name in TOPICS if name not in COPIED)
_LEGAL: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")


def check_prefixes(old: str, new: str) -> None:
    """Refuse a prefix that cannot be migrated to.

    Raises
    ------
    Fatal
        It is the old one, or no part of a topic's name.
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
    """One topic: records under the old prefix, and how many of them were there and were copied."""

    records: int = 0
    there: int = 0
    copied: int = 0


@dataclass
class Migration:
    """What a migration came to.

    Attributes
    ----------
    dry_run
        Whether nothing was to be written.
    topics
        Topic, without prefix -> its records.
    complete
        Whether everything is under the new prefix, compared record by record.
    """

    old: str
    new: str
    dry_run: bool
    topics: dict[str, TopicCopy] = field(default_factory=dict)
    complete: bool = False

    @property
    def left(self) -> int:
        """How many records are not under the new prefix."""
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
    """Return what the operator does after a migration that is complete, in order."""
    prefix = shlex.quote(new)
    return [
        "keep every process of the old prefix stopped; also mirror, serve and kill keep, which "
        "share Valkey with the new one",
        f"set TOPIC_PREFIX={prefix} for every process; every other setting stays",
        "manifold worker (under its supervisor; manifold status shows when its lag is 0)",
        "manifold mirror --rebuild, then manifold mirror (its keys in Valkey carry no prefix)",
        "manifold verify (exit code 0)",
        "manifold feed oanda, manifold serve",
        "manifold trade, when manifold status shows no lag: its /status names the positions held "
        "and no difference",
        "manifold kill off --reason TEXT (the kill switch is engaged, as it was copied)",
    ]
