"""Validates decoded records, the same for every reader of the log. Pure.

``Codec.decode`` calls it for every record before anything is computed from it. The rules
(``streams.records.event_rules``, ``trading_rules``) accept every record that this program can
write. They refuse numbers out of range, times outside 1971 to 2100, malformed names, texts and
lists that are too long, and records whose fields contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from streams.records import event_rules, trading_rules
from streams.records.events import Control, Ohlc
from streams.records.json_limits import json_problem
from streams.records.value_rules import (
    Rule,
    compiled,
    field_rules,
    price_problem,
    relation_holds,
    relations_of,
    tests,
)

_SHOWN: Final = 64
_MODULES: Final = (event_rules, trading_rules)  # importing them sets the rules
_VALID_FIELDS: Final = tests()


def _valid_control(event: Control) -> bool:
    return _VALID_FIELDS[Control](event) and json_problem(event.value) is None


VALID: Final[Mapping[type, Callable[[Any], bool]]] = _VALID_FIELDS | {Control: _valid_control}
"""Record type -> whether a decoded record of it is valid."""


def problem_of(event: Any) -> str | None:
    """Return what is wrong with a decoded record, None when it is valid.

    Parameters
    ----------
    event
        An event of ``streams.records``, with values of the types that its schema has.
    """
    if VALID[event.__class__](event):
        return None
    return next(_problems(event, ""), "its value is no JSON that is admitted")


def stamp_problem(event: Any, timestamp_ms: int) -> str | None:
    """Return why content and Kafka time stamp of a record are inconsistent, None when they are not.

    Producers use ``as_of_ms`` as the Kafka timestamp, and brokers refuse timestamps far in the
    future. A record with a later ``as_of_ms`` is refused, so no reader needs its own clock.
    """
    as_of_ms = getattr(event, "as_of_ms", None)
    if as_of_ms is not None and as_of_ms > timestamp_ms:
        return f"as_of_ms {as_of_ms} lies after the record's time stamp {timestamp_ms}"
    return None


def _problems(event: Any, path: str) -> Iterator[str]:
    kind = event.__class__
    if kind is Ohlc:
        yield f"{path[:-1]}: {price_problem(event)}"
    for (name, rule), value in zip(field_rules(kind).items(), event, strict=True):
        if not compiled(rule)(value):
            yield from _problems_of_value(value, rule, f"{path}{name.rstrip('_')}")
    for test, words in relations_of(kind):
        if not relation_holds(test, event):
            yield path + words.format(**event._asdict())
    if kind is Control:
        found = json_problem(event.value)
        if found is not None:
            yield f"value: {found}"


def _problems_of_value(value: Any, rule: Rule, path: str) -> Iterator[str]:
    if rule.item is not None and len(value) <= rule.high:
        for at, each in enumerate(value):
            if not compiled(rule.item)(each):
                yield from _problems_of_value(each, rule.item, f"{path}[{at}]")
    elif rule.fields is not None and rule.item is None:
        yield from _problems(value, path + ".")
    elif rule.item is not None:
        yield f"{path} has {len(value)} items, at most {rule.high:.0f} are allowed"
    else:
        yield f"{path} {_shown(value)} is not {rule.words}"


def _shown(value: Any) -> str:
    return repr(value[:_SHOWN] if isinstance(value, str | bytes) else value)
