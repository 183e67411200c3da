"""Which servers the product may call when a person, and not its operator, gave the address. Pure: no DNS, no sockets.

A user-given host must not become a way into the network the product runs in. So only public addresses pass, over https on port
443, unless the operator listed the host or the network (`AllowList`). What counts is the resolved address: names, numbers in odd
notations and redirects all end in one. Python's `is_global` is no help, it calls NAT64, 6to4 and multicast global (toolchain.md).
Sources: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and what updates it).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import SplitResult, urlsplit

from server.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HTTPS_PORT = 443

_PUBLIC_V6 = ip_network("2000::/3")  # the only part of IPv6 that is given out for the Internet
_DENIED: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
            *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # Azure's own services for a virtual machine, at a public address
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
_NEVER_BY_NAME: tuple[Network, ...] = tuple(
    map(ip_network, ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32"))
) + tuple(map(ip_network, ("::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128")))
"""A name that was listed does not lead there, since its owner can point it anywhere; only listing the network does."""

_EXCHANGE_ONLINE = ("outlook.com", "office.com", "office365.com", "office365.us", "outlook.cn", "office.de", "cloud.microsoft")


def is_public(address: Address) -> bool:
    """Say whether the address belongs to the Internet, and to nobody's own network, link, tunnel or documentation."""
    if isinstance(address, IPv6Address) and address not in _PUBLIC_V6:
        return False
    return not any(address in network for network in _DENIED)


@dataclass(frozen=True, slots=True)
class AllowList:
    """What the operator permits beside public addresses on port 443."""

    networks: tuple[tuple[Network, int], ...] = ()  # with their port
    names: frozenset[tuple[str, int]] = frozenset()  # lower case, with their port
    ports: frozenset[int] = frozenset({HTTPS_PORT})  # of public addresses

    @classmethod
    def of(cls, entries: Iterable[str]) -> AllowList:
        """Read entries: a host name, an address, or a network, each with an optional ":port" ("[::1]:8443" for IPv6).

        Raises: InvalidInput for what is none of these.
        """
        networks: list[tuple[Network, int]] = []
        names: set[tuple[str, int]] = set()
        for entry in entries:
            host, port = _host_and_port(entry.strip().lower())
            try:
                networks.append((ip_network(host, strict=False), port))
            except ValueError:
                if not host or not all(c.isalnum() or c in ".-_" for c in host):
                    raise InvalidInput("allowed_hosts", "An entry is a host name, an address or a network.") from None
                names.add((host, port))
        return cls(tuple(networks), frozenset(names))

    def permits(self, host: str, address: Address, port: int, *, secure: bool) -> bool:
        """Say whether a connection to this address, which `host` resolved to, may be made; without TLS only on this machine."""
        listed = any(port == allowed and address in network for network, allowed in self.networks)
        if listed:
            return secure or address.is_loopback
        if not secure:
            return False
        if (host.lower().rstrip("."), port) in self.names:
            return not any(address in network for network in _NEVER_BY_NAME) and not _is_tunnel(address)
        return port in self.ports and is_public(address)


def _is_tunnel(address: Address) -> bool:
    """IPv6 addresses that carry an IPv4 address, whose own place would have to be judged."""
    if isinstance(address, IPv4Address):
        return False
    carrying = ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
    return any(address in ip_network(network) for network in carrying)


def _host_and_port(entry: str) -> tuple[str, int]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, int(rest[1:]) if rest[1:].isdecimal() else HTTPS_PORT
    head, colon, tail = entry.rpartition(":")
    if colon and tail.isdecimal() and ":" not in head:
        return head, int(tail)
    return entry, HTTPS_PORT


def server_url(text: str, field: str) -> SplitResult:
    """Take apart the address of a server that a person gave.

    Raises: InvalidInput naming `field` for what is no plain https address. (http passes here; only an allowed loopback address
    may be called so, which `AllowList.permits` decides.)
    """
    try:
        url = urlsplit(text.strip())
        port = url.port
    except ValueError:
        raise InvalidInput(field, "This is not the address of a server.") from None
    if url.scheme not in ("https", "http") or not url.hostname:
        raise InvalidInput(field, "The address must begin with https://.")
    if url.username is not None or url.password is not None or url.fragment or "\\" in text or port == 0:
        raise InvalidInput(field, "The address must be a plain one: no user name, no fragment.")
    if any(c.isspace() or not c.isprintable() for c in text.strip()):
        raise InvalidInput(field, "The address holds characters that no address has.")
    return url


def is_exchange_online(host: str) -> bool:
    """Say whether Microsoft hosts it: such mailboxes are reached over Graph and never over EWS (outlook.md 2.5)."""
    name = host.lower().rstrip(".")
    return any(name == domain or name.endswith(f".{domain}") for domain in _EXCHANGE_ONLINE)
