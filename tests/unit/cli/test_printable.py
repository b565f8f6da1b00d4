"""Texts of others: which say something, and which reach a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from rich.console import Console

from streams.cli.output import cell, echo
from streams.cli.reason import require_reason
from streams.errors import Fatal
from streams.printable import one_line, printable, says_something
from streams.service.shapes import Said

NOTHING = [
    "",
    " ",
    "\t\n",
    "\u200b\u2060",
    "\u3164",
    "\u2800",
    "\x1b\r",
    "\u0301",
    "\u00ad",
    "\ufeff",
]
VISIBLE_FORMATS = {"\u06dd", "\u070f", "\u0890", "\u0891", "\u08e2", "\U000110bd", "\U000110cd"}


@pytest.mark.parametrize("text", NOTHING)
def test_a_text_without_a_visible_character_is_no_reason(text: str) -> None:
    assert not says_something(text)
    with pytest.raises(Fatal, match="no visible"):
        require_reason(text)
    for given in ({"reason": text}, {"actor": text}):
        with pytest.raises(ValueError, match=r"visible|match|at least"):
            Said.model_validate(given)


@pytest.mark.parametrize("text", ["x", "é", "中", "!", "✓", "\u200bx", "1"])
def test_any_visible_character_is_a_reason(text: str) -> None:
    assert says_something(text)
    require_reason(text)
    assert Said.model_validate({"reason": text}).reason == text


def test_every_character_that_acts_on_a_terminal_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        kind = unicodedata.category(character)
        if kind not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\t\n":
            continue
        if character in VISIBLE_FORMATS or 0x600 <= code <= 0x605 or 0x13430 <= code <= 0x1343F:
            continue
        assert printable(character).isascii(), f"U+{code:04X}"
        assert len(printable(character)) >= 6, f"U+{code:04X}"


def test_text_is_kept_and_json_keeps_its_meaning() -> None:
    assert printable("a\tb\nc é ✓ \\") == "a\tb\nc é ✓ \\"
    assert one_line("a\nb\x1b[2J") == "a\\u000ab\\u001b[2J"
    content = {"reason": "\x1b]0;x\x07 \u202e \x9b1m \U000e0041 \u2028"}
    shown = printable(json.dumps(content, ensure_ascii=False))
    assert shown.isascii() and json.loads(shown) == content


def test_commands_print_no_control_characters_and_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo("\x1b[31mred\u202e")
    echo("\x1b[31mred", err=True)
    told = capsys.readouterr()
    assert told.out == "\\u001b[31mred\\u202e\n" and told.err == "\\u001b[31mred\n"
    console = Console(width=200)
    console.print(cell("[link=http://evil.example]x[/link]\x1b[2J"))
    assert capsys.readouterr().out == "[link=http://evil.example]x[/link]\\u001b[2J\n"
