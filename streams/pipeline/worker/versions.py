"""Pinned versions of Faust and aiokafka, because this package replaces private parts of them."""

from __future__ import annotations

from importlib.metadata import version

from streams.errors import Fatal

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


def require_versions() -> None:
    """Raise Fatal if another version of a patched library is installed."""
    for name, wanted in PINNED.items():
        found = version(name)
        if found != wanted:
            raise Fatal(
                f"{name} {found} is installed; this program replaces private parts of version "
                f"{wanted}: pip install {name}=={wanted}"
            )
