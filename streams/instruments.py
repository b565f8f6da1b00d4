"""Names of instruments: normalise every spelling of a currency pair."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Final

METALS: Final = frozenset({"XAU", "XAG", "XPT", "XPD"})
_CODES = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN
BZD CAD CDF CHF CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL
GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF
KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR
MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG
SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU
UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
CURRENCIES: Final = METALS | frozenset(_CODES.split())
"""ISO 4217 without funds and test codes, with the metals, CNH (offshore) and HRK (until 2023)."""

_PAIR = re.compile(r"(?:[A-Z_]+:)?([A-Z]{3})\s*[/_.-]?\s*([A-Z]{3})(?:=X)?", re.ASCII)
_COINS: Final = frozenset({"USDT"})
"""Longer codes that begin like a currency: EURUSDT is not a spelling of EUR_USD."""
_WORD = re.compile(r"[A-Za-z0-9]+", re.ASCII)


def instrument_name(text: str) -> str:
    """Return the standard name of an instrument: ``nzd/usd``, ``NZDUSD=X``, ``NZD USD`` are
    NZD_USD.

    A name that is not a pair of two known currencies or metals is only changed to upper case, with
    underscores for slashes.
    """
    upper = text.strip().upper()
    found = _PAIR.fullmatch(upper)
    if found and is_pair(found[1], found[2]):
        return f"{found[1]}_{found[2]}"
    return upper.replace("/", "_")


def instrument_names(texts: Iterable[str]) -> tuple[str, ...]:
    """Return standard names without empty names and duplicates, in their order."""
    return tuple(dict.fromkeys(instrument_name(text) for text in texts if text.strip()))


def is_pair(base: str, quote: str) -> bool:
    """Return whether two words in upper case are two different currencies or metals."""
    return base != quote and base in CURRENCIES and quote in CURRENCIES


def decorated_pair(name: str) -> str | None:
    """Return the pair in a name with a suffix (``EURUSD.M``, ``EURUSDM``), else None.

    Such a name would count as another instrument, with other sessions than the pair's.
    """
    words = [word if word[3:] in _COINS else word[:6] for word in words_of(name)]
    pairs = pairs_in(words)
    if len(pairs) != 1 or name in (pairs[0], pairs[0].replace("_", "")):
        return None
    return pairs[0]


def words_of(text: str) -> list[str]:
    """Return the runs of ASCII letters and digits of a text, in upper case."""
    return [word.upper() for word in _WORD.findall(text)]


def pairs_in(words: list[str]) -> list[str]:
    """Return the distinct pairs in a text: one word of six letters, or two adjacent words."""
    found = [f"{w[:3]}_{w[3:]}" if len(w) == 6 and is_pair(w[:3], w[3:]) else "" for w in words]
    beside = [f"{a}_{b}" if is_pair(a, b) else "" for a, b in itertools.pairwise(words)]
    return list(dict.fromkeys(name for name in (*found, *beside) if name))
