"""Pinned versions of Faust and aiokafka, because this package replaces private parts of them."""

from __future__ import annotations

from importlib.metadata import version

from streams.errors import Fatal

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


def require_versions() -> None:
    """Raise Fatal if another version of a patched library is installed."""
    for name, expected in PINNED.items():
        actual = version(name)
        if actual != expected:
            raise Fatal(
                f"{name} {actual} is installed; this program replaces private parts of version "
                f"{expected}: pip install {name}=={expected}"
            )
