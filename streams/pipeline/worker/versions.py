"""The parts of Faust and aiokafka that this package replaces are private: versions are pinned."""

from __future__ import annotations

from importlib.metadata import version

from streams.errors import Fatal

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


def require_versions() -> None:
    """Raise Fatal when another version of a patched library is installed."""
    for name, wanted in PINNED.items():
        found = version(name)
        if found != wanted:
            raise Fatal(
                f"{name} {found} is installed; this program is made for {wanted}, whose private "
                f"parts it replaces: pip install {name}=={wanted}"
            )
