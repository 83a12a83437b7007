"""Whom to believe about a client: the proxies in front of a gateway (row R28)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, cast

from .._errors import ConfigurationError
from .._show import show

Address = IPv4Address | IPv6Address

EVERYBODY: Final = "*"
UNIX: Final = "unix"


class TrustedProxies:
    """Addresses whose ``X-Forwarded-*`` fields are believed.

    Args:
        given: addresses and networks, ``"unix"`` for peers on a unix socket, or ``"*"`` for everybody.

    Raises:
        ConfigurationError: something else.
    """

    def __init__(self, given: object) -> None:
        if isinstance(given, str):
            given = (given,)
        if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
            raise ConfigurationError(
                f"trusted_proxies must be a list of addresses and networks, not {show(given)}", field="trusted_proxies"
            )
        self._everybody = False
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for item in cast("Iterable[object]", given):
            if item == EVERYBODY:
                self._everybody = True
            elif item == UNIX:
                self._unix = True
            else:
                self._networks.append(_network(item))

    def trust(self, peer: str | None) -> bool:
        """Whether the peer of a connection is believed; ``None`` is one on a unix socket."""
        if self._everybody:
            return True
        if peer is None:
            return self._unix
        if not self._networks:
            return False
        address = read_address(peer)
        return address is not None and any(address in network for network in self._networks)

    def client(self, peer: str | None, forwarded_for: Sequence[str]) -> str | None:
        """The address of the client: the rightmost one that is not a trusted proxy; ``None`` if nobody can tell."""
        if not self.trust(peer):
            return peer
        best = peer
        for part in reversed(",".join(forwarded_for).split(",")):
            address = read_address(part.strip())
            if address is None:
                break  # what stands further left was written by somebody who cannot be told any more
            best = str(address)
            if not self.trust(best):
                break
        return best


def _network(item: object) -> IPv4Network | IPv6Network:
    try:
        if isinstance(item, str):
            return _unmapped(ip_network(item, strict=False))
    except ValueError:
        pass
    raise ConfigurationError(
        f'trusted_proxies must be addresses, networks such as "10.0.0.0/8", "unix" or "*", not {show(item)}',
        field="trusted_proxies",
    )


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The IPv4 network for one of IPv4 addresses in IPv6, ``::ffff:10.0.0.0/104``: addresses are read the same way."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def read_address(text: str) -> Address | None:
    """Read an address as it stands in ``X-Forwarded-For``: with a port or without, IPv6 in brackets or not."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.partition("%")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
