"""``docs/valkey-keys.md``, made from the lists of keys.

``python -m streams.mirror.key_reference`` writes it; a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from streams.mirror.keys import (
    KEYS,
    KEYS_NOT_WRITTEN,
    KEYS_OF_OTHERS,
    KEYS_OF_THE_SERVICE,
    KEYS_ON_DEMAND,
    KeyKind,
)

PLACE = Path(__file__).resolve().parents[2] / "docs" / "valkey-keys.md"
_HEAD = """# Keys in Valkey

Made by `python -m streams.mirror.key_reference` from `streams/mirror/keys.py`; do not edit.

Valkey is a read model: what the mirror writes is derived from the log, can be wiped at any time and
comes back (`manifold mirror --rebuild`). `INST` is an instrument such as `EUR_USD`; times are epoch
milliseconds UTC where nothing else is said, and times to live count from the event's time, so that
a value never looks fresher than it is. Channels: `ws:manifold` (the JSON of `ws:last:manifold`, as
it is written), `opt:live_config:changed:{INST}` (that of `opt:best_config`).
"""
_PARTS: tuple[tuple[str, Sequence[KeyKind]], ...] = (
    ("Written by the mirror", KEYS),
    ("The kill switch's own", KEYS_OF_OTHERS),
    ("Written by the service", KEYS_OF_THE_SERVICE),
    ("Written by a command that is asked to", KEYS_ON_DEMAND),
    ("Of the original, not written: what to use instead", KEYS_NOT_WRITTEN),
)


def document() -> str:
    """Return the text of the reference."""
    lines = [_HEAD]
    for title, kinds in _PARTS:
        lines += [f"## {title}", "", "| key | content |", "|---|---|"]
        lines += [f"| `{kind.pattern}` | {kind.content.replace('|', '/')} |" for kind in kinds]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PLACE.write_text(document(), encoding="utf-8")
    print(PLACE)
