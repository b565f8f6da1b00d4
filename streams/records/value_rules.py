"""Rules for the values of record fields, used by ``streams.records.validation``.

The rules of a record are compiled into one expression, because every record is validated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from streams.instants import EARLIEST_MS, GRANULARITY_MS, HOUR_MS, LATEST_MS

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)
LOWEST_PRICE: Final = 1e-12
HIGHEST_PRICE: Final = 1e12
"""Price range of the engine; no real price is outside."""
MOST_REAL: Final = 1e100
"""Limit of every other real number: sums and products of a few stay finite."""
MOST_UNITS: Final = 1e15
MOST_COUNT: Final = 10**12
MOST_OFFSET: Final = 2**53
LONGEST_FUTURE_MS: Final = 10 * 366 * 86_400_000
"""Maximum time after ``LATEST_MS`` for fields that hold the end of a period."""
SHORT, LONG, LONGEST = 128, 10_000, 1 << 20
"""Maximum characters of a name or code, of a text of a person or venue, and of a record."""
MOST_ITEMS: Final = 10_000


class Rule(NamedTuple):
    """Rule for one value.

    Attributes
    ----------
    test
        Python expression that is true for a valid value; ``{v}`` stands for the value.
    words
        Completes "VALUE is not".
    low, high
        Bounds of a number, of a text's length in characters, or of the number of a list's items.
    bounded
        Whether ``test`` checks these bounds only.
    item
        Rule of a list's items.
    fields
        Rules of a record, or of a list's records.
    optional
        Whether the value may be absent.
    """

    test: str
    words: str
    low: float = -math.inf
    high: float = math.inf
    bounded: bool = True
    item: Rule | None = None
    fields: type | None = None
    optional: bool = False


def number_rule(low: float, high: float, words: str = "") -> Rule:
    """Return the rule of a number in [low, high]."""
    what = words or f"a number from {low:g} to {high:g}"
    return Rule(f"{low!r} <= {{v}} <= {high!r}", what, low, high)


def text(most: int) -> Rule:
    """Return the rule of a text of at most ``most`` characters."""
    return Rule(f"len({{v}}) <= {most}", f"a text of at most {most} characters", 0, most)


def choice(*words: str) -> Rule:
    """Return the rule of a text that is one of ``words``."""
    longest = max(map(len, words))
    return Rule(f"{{v}} in {words!r}", f"one of {', '.join(words)}", 0, longest, False)


def some(rule: Rule) -> Rule:
    """Return the rule of an optional value."""
    return rule._replace(test=f"({{v}} is None or {rule.test})", optional=True)


def many(rule: Rule, most: int = MOST_ITEMS) -> Rule:
    """Return the rule of a list of at most ``most`` items, each of which follows ``rule``."""
    name = rule.test.removesuffix("({v})")
    if rule.test.startswith("len({v}) <= "):
        each = f"max(map(len, {{v}})) <= {rule.high!r}"
    else:
        if name not in _NAMES:
            name = f"each_{len(_NAMES)}"
            _NAMES[name] = compiled(rule)
        each = f"all(map({name}, {{v}}))"
    test = f"(not {{v}} or len({{v}}) <= {most} and {each})"
    words = f"at most {most} of which each is {rule.words}"
    return Rule(test, words, 0, most, item=rule, fields=rule.fields)


def record_of(kind: type) -> Rule:
    """Return the rule of a nested record."""
    return Rule(f"{_valid_name(kind)}({{v}})", f"a valid {kind.__name__}", fields=kind)


def _valid_name(kind: type) -> str:
    return f"valid_{kind.__name__}"


def compiled(rule: Rule) -> Callable[[Any], bool]:
    """Return a function that tests one value."""
    made: Callable[[Any], bool] = eval(f"lambda v: {rule.test.format(v='v')}", _NAMES)
    return made


@lru_cache(maxsize=16_384)
def is_name(text: str) -> bool:
    """Return whether a text is a valid instrument name, such as EUR_USD."""
    return NAME.fullmatch(text) is not None


_NAMES: Final[dict[str, Any]] = {
    "is_name": is_name, "GRANULARITY_MS": GRANULARITY_MS, "HOUR_MS": HOUR_MS, "len": len,
    "all": all, "map": map, "min": min, "max": max,
}  # fmt: skip
"""Names that the compiled expressions use."""

BOOL = Rule("True", "true or false")
COMPLETE = Rule("{v} is True", "true: the candle is not complete", bounded=False)
INSTRUMENT = Rule("is_name({v})", "a name such as EUR_USD", 1, 32, False)
GRANULARITY = Rule("{v} in GRANULARITY_MS", f"one of {', '.join(GRANULARITY_MS)}", 1, 16, False)
TIME = number_rule(EARLIEST_MS, LATEST_MS, "a time between 1971 and 2100")
END = number_rule(EARLIEST_MS, LATEST_MS + LONGEST_FUTURE_MS, "a time between 1971 and 2110")
TIME_OR_0 = Rule(
    f"({{v}} == 0 or {TIME.test})", "0 or a time between 1971 and 2100", 0, LATEST_MS, False
)
TIME_OR_NONE = number_rule(-1, LATEST_MS, "-1, 0 or a time up to 2100")
OFFSET = number_rule(0, MOST_OFFSET, "an offset")
COUNT = number_rule(0, MOST_COUNT)
RATIO = number_rule(-1e-6, 1 + 1e-6, "a number from 0 to 1")
REAL = number_rule(-MOST_REAL, MOST_REAL)
PRICE = number_rule(LOWEST_PRICE, HIGHEST_PRICE)
LEVEL = number_rule(-HIGHEST_PRICE, HIGHEST_PRICE)
UNITS = number_rule(-MOST_UNITS, MOST_UNITS)
QUANTITY = number_rule(0.0, MOST_UNITS)
WAY = number_rule(-1, 1, "-1, 0 or 1")
CODE = text(SHORT)
WORDS = text(LONG)
ID = Rule(
    f"(len({{v}}) <= {SHORT} and {{v}}.isascii())",
    f"a text of at most {SHORT} ASCII characters",
    0,
    SHORT,
)
STAMP = {
    "instrument": INSTRUMENT,
    "granularity": GRANULARITY,
    "bar_ms": TIME,
    "as_of_ms": TIME,
    "config_id": CODE,
    "control_offset": OFFSET,
}
WINDOW = {
    "window_start_ms": TIME,
    "coherence": RATIO,
    "stability": RATIO,
    "entropy": RATIO,
    "rupture": RATIO,
    "lambda_hazard": RATIO,
    "signature": CODE,
    "count_1h": COUNT,
    "first_seen_ms": TIME,
    "price": PRICE,
    "volume_missing": BOOL,
    "gap_bars": COUNT,
}
VOLUME = some(number_rule(0, 2**63, "a number of ticks, 0 or more"))
MODE = choice("adaptive", "echo", "static")

AS_OF_BAR_END = (
    "as_of_ms == bar_ms + GRANULARITY_MS[granularity]",
    "as_of_ms {as_of_ms} is not bar_ms {bar_ms} plus the length of {granularity}",
)
BAR_START = (  # bars over one hour start in New York time
    "bar_ms % min(GRANULARITY_MS[granularity], HOUR_MS) == 0",
    "bar_ms {bar_ms} is not the start of a bar of {granularity}",
)
BAR_BEFORE = ("bar_ms < as_of_ms", "bar_ms {bar_ms} is not before as_of_ms {as_of_ms}")
BAR_NOT_AFTER = ("bar_ms <= as_of_ms", "bar_ms {bar_ms} is after as_of_ms {as_of_ms}")

_FIELDS: Final[dict[type, dict[str, Rule]]] = {}
_RELATIONS: Final[dict[type, tuple[tuple[str, str], ...]]] = {}
_VALID: Final[dict[type, Callable[[Any], bool]]] = {}


def set_rules(
    kind: Any, fields: dict[str, Rule], *relations: tuple[str, str], test: str = ""
) -> None:
    """Set the rules of a record: every field, and relations as (expression, what is wrong).

    Parameters
    ----------
    test
        A shorter equivalent expression of the fields.
    """
    ordered = {name: fields[name] for name in kind._fields}
    _FIELDS[kind], _RELATIONS[kind] = ordered, relations
    tests = [rule.test.format(v=name) for name, rule in ordered.items() if rule.test != "True"]
    body = test or " and ".join([*tests, *(f"({each})" for each, _ in relations)]) or "True"
    source = f"def valid(event):\n    ({', '.join(ordered)},) = event\n    return {body}\n"
    exec(compile(source, f"<rules of {kind.__name__}>", "exec"), _NAMES)
    _VALID[kind] = _NAMES[_valid_name(kind)] = _NAMES.pop("valid")


def field_rules(kind: type) -> dict[str, Rule]:
    """Return the rules of a record's fields, by Python name, in their order."""
    return _FIELDS[kind]


def fields_in(test: str) -> tuple[str, ...]:
    """Return the names in a relation, fields and functions."""
    return compile(test, "<relation>", "eval").co_names


def kind_named(record: str) -> type:
    """Return the type of a record by its name in ``schemas/``."""
    return next(kind for kind in _FIELDS if kind.__name__ == record)


def relations_of(kind: type) -> tuple[tuple[str, str], ...]:
    """Return the relations between the fields of a record: expression, and message."""
    return _RELATIONS[kind]


def relation_holds(test: str, event: Any) -> bool:
    """Return whether a relation holds; true when one of its fields is invalid."""
    try:
        return bool(eval(test, _NAMES, event._asdict()))
    except KeyError:
        return True


def price_problem(prices: tuple[float, float, float, float]) -> str | None:
    """Return why open, high, low and close are invalid, None when they are valid."""
    opened, high, low, close = prices
    if LOWEST_PRICE <= low <= opened <= high <= HIGHEST_PRICE and low <= close <= high:
        return None
    if not all(math.isfinite(price) and price > 0.0 for price in prices):
        return f"a price is not a positive finite number: {tuple(prices)}"
    if not all(LOWEST_PRICE <= price <= HIGHEST_PRICE for price in prices):
        return f"a price is outside {LOWEST_PRICE:g} to {HIGHEST_PRICE:g}: {tuple(prices)}"
    return f"open and close do not lie between low and high: {tuple(prices)}"


def tests() -> dict[type, Callable[[Any], bool]]:
    """Return record type -> function that tests the fields of a record."""
    return dict(_VALID)
