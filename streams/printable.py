"""Checks and escapes texts of other people, for the terminal and for logs."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_HIDDEN: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which terminals execute
    "\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # order, joining, tags
    "\ud800-\udfff"
)
_UNSAFE: Final = re.compile(f"[{_HIDDEN}]")
_UNSAFE_IN_A_LINE: Final = re.compile(f"[{_HIDDEN}\n]")
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U00013441\U00013442\U0001d159")
"""Characters that Unicode counts as letters or symbols and that fonts show as blank."""


def says_something(text: str) -> bool:
    """Return whether a text has a visible character.

    Blanks, control and format characters, and combining marks alone are not visible.
    """
    return any(unicodedata.category(c)[0] in "LNPS" and c not in _BLANK for c in text)


def printable(text: str) -> str:
    """Return a text with its control and direction characters as JSON escapes (``\\\\u001b``).

    Line feeds and tabs are kept. JSON text keeps its meaning.
    """
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return ``printable`` text in which line feeds are escaped too."""
    return _UNSAFE_IN_A_LINE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
