"""sd_notify messages to systemd: ready, watchdog, stopping; no-op without NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """The socket in ``NOTIFY_SOCKET``.

    Parameters
    ----------
    env
        Environment of this process.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        name = env.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name

    def tell(self, **said: str | int) -> bool:
        """Send assignments such as ``READY=1``; return whether they were sent."""
        if not self._address:
            return False
        text = "\n".join(f"{name}={value}" for name, value in said.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.sendto(text.encode(), self._address)
        except OSError:
            return False  # the receiver is gone: continue without it
        return True
