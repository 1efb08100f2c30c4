"""Which hosts are on the public internet: judged from a name or an address alone, without asking DNS.

Two sides need it. The provider refuses callbacks to internal addresses, so a request that holds one is refused here
before it costs a round trip; and a link from a reply must not lead the downloader into the caller's own network.
Ranges: the IANA special-purpose registries for IPv4 and IPv6. They are written out where `ipaddress.is_global`
differs between Python's patch releases.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["host_problem", "is_public"]

_IPV4_SPECIAL = tuple(
    IPv4Network(text) for text in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15")
)
_IPV6_UNICAST = IPv6Network("2000::/3")
_IPV6_SPECIAL = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")

_INTERNAL_SUFFIXES = (
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "in-addr.arpa",
    "ip6.arpa",
    "test",
    "invalid",
    "onion",
)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether packets to `address` leave for the public internet.

    An IPv4 address carried inside an IPv6 one (mapped, 6to4, Teredo, NAT64) counts for what it carries: a NAT64
    network answers every name with such addresses, so they can't be refused wholesale.
    """
    if isinstance(address, IPv6Address):
        carried = _carried(address)
        if carried:
            return all(is_public(inner) for inner in carried)
        return address in _IPV6_UNICAST and address.is_global and not _within(address, _IPV6_SPECIAL)
    return address.is_global and not address.is_multicast and not _within(address, _IPV4_SPECIAL)


def _within(
    address: IPv4Address | IPv6Address,
    networks: tuple[IPv4Network, ...] | tuple[IPv6Network, ...],
) -> bool:
    return any(address in network for network in networks)


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


@lru_cache(maxsize=1024)
def host_problem(host: str) -> str | None:
    """What speaks against `host` (a name, or an address without brackets) as a public host; None where nothing does.

    Only plain spellings pass. `2130706433`, `0x7f.1` and `0177.0.0.1` are all 127.0.0.1 to one resolver and
    something else to the next, so an address that is not written in full is refused instead of guessed at.
    """
    if not host:
        return "names no host"
    if not host.isascii():
        return "has a host outside ASCII; write an international name in its xn-- form"
    plain = host.lower().removesuffix(".")
    if ":" in plain:
        return _address_problem(plain)
    labels = plain.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _address_problem(plain)
    return _name_problem(plain, labels)


def _address_problem(text: str) -> str | None:
    try:
        # A zone ("fe80::1%eth0") only ever names a link of the host itself.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return "has a host that is neither a name nor an address written in full"
    return None if is_public(address) else "leads to an internal address"


def _name_problem(name: str, labels: list[str]) -> str | None:
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return "has a malformed host name"
    if any(name == suffix or name.endswith(f".{suffix}") for suffix in _INTERNAL_SUFFIXES):
        return "leads to an internal host"
    if len(labels) == 1:
        return "has a host name without a dot, which is an internal one"
    if any(label.startswith("xn--") and _is_disguised_ascii(label) for label in labels):
        return "has a malformed international host name"
    return None


def _is_disguised_ascii(label: str) -> bool:
    """Whether an xn-- label stands for plain ASCII, which some resolvers undo (`xn--localhost-` → localhost)."""
    try:
        decoded = label.removeprefix("xn--").encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return True
    return unicodedata.normalize("NFKC", decoded).isascii()
