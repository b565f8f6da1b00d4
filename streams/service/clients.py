"""The address of a client; behind a trusted proxy the one in ``X-Forwarded-For``."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from streams.process.status_access import is_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_of(peer: str, forwarded: str, proxies: Sequence[Network]) -> str:
    """Return the address that limits are counted for; an IPv6 one as its /64 network.

    Parameters
    ----------
    peer
        The address that the connection comes from.
    forwarded
        ``X-Forwarded-For``. Used only when ``peer`` is one of ``proxies``: the last address in it
        that is not a proxy. Other clients can put any address there.
    proxies
        Networks of the trusted proxies.
    """
    found = peer
    if _within(peer, proxies):
        for name in reversed([part.strip() for part in forwarded.split(",")]):
            if not is_address(name):
                break
            found = name
            if not _within(name, proxies):
                break
    return _network(found)


def _within(address: str, networks: Sequence[Network]) -> bool:
    return is_address(address) and any(ipaddress.ip_address(address) in n for n in networks)


def _network(address: str) -> str:
    if ":" not in address or not is_address(address):
        return address
    found = ipaddress.IPv6Address(address)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return address if found.is_loopback else str(ipaddress.ip_network((int(found), 64), False))
