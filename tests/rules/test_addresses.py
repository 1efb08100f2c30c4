from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanasync.rules.addresses import host_problem, is_public

GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
INTERNAL_NETWORKS = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]


@st.composite
def internal_ipv4(draw: st.DrawFn) -> IPv4Address:
    network = draw(st.sampled_from(INTERNAL_NETWORKS))
    return network[draw(st.integers(0, network.num_addresses - 1))]


def carriers(address: IPv4Address) -> list[str]:
    """IPv6 addresses that lead to an IPv4 one."""
    number = int(address)
    return [
        f"::ffff:{address}",
        f"::{address}",
        str(IPv6Address(0x64FF9B << 96 | number)),
        str(IPv6Address(0x2002 << 112 | number << 80 | 1)),
        # Teredo keeps the client's address with its bits turned round.
        str(IPv6Address(0x20010000 << 96 | int(IPv4Address("8.8.8.8")) << 64 | number ^ 0xFFFFFFFF)),
    ]


def spellings(address: IPv4Address) -> list[str]:
    """What some resolver somewhere takes for `address`."""
    a, b, c, d = address.packed
    number = int(address)
    return [
        str(address),
        f"{address}.",
        str(number),
        f"{number:#x}",
        f"{number:#o}".replace("0o", "0"),
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:04d}.{b}.{c}.{d}",
        f"{a:#X}.{b}.{c}.{d}",
        *carriers(address),
        *(spelled.upper() for spelled in carriers(address)),
    ]


@given(internal_ipv4())
def test_no_spelling_of_an_internal_address_passes(address: IPv4Address) -> None:
    assert [text for text in spellings(address) if host_problem(text) is None] == []


@given(st.ip_addresses(v=6))
def test_public_ipv6_is_global_unicast_or_carries_ipv4(address: IPv6Address) -> None:
    carries = address.ipv4_mapped is not None or address in NAT64
    assert not is_public(address) or carries or address in GLOBAL_UNICAST


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_pass(host: str) -> None:
    assert host_problem(host) is None
    assert is_public(ip_address(host))


@pytest.mark.parametrize(
    "host",
    ["::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "64:ff9b:1::1"],
)
def test_internal_ipv6_is_refused(host: str) -> None:
    assert host_problem(host) is not None


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "EXAMPLE.com",
        "example.com.",
        "xn--bcher-kva.example",
        "a-b.c_d.example",
        "1.example.com",
        "0x.io",
    ],
)
def test_public_names_pass(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("", "no host"),
        (".", "malformed"),
        ("localhost", "internal"),
        ("LOCALHOST.", "internal"),
        ("api.localhost", "internal"),
        ("printer.local", "internal"),
        ("db.internal", "internal"),
        ("metadata.google.internal", "internal"),
        ("router.home.arpa", "internal"),
        ("intranet", "internal"),
        ("a..b.com", "malformed"),
        ("-a.com", "malformed"),
        ("a-.com", "malformed"),
        ("a b.com", "malformed"),
        ("a%2eb.com", "malformed"),
        (f"{'a' * 64}.com", "malformed"),
        (f"{'a.' * 130}com", "malformed"),
        ("１２７.0.0.1", "ASCII"),
        ("127。0。0。1", "ASCII"),
        ("ⓛocalhost", "ASCII"),
        ("bücher.example", "ASCII"),
        ("xn--localhost-.com", "malformed"),
        ("xn--999999999999.com", "malformed"),
        ("1.2.3", "written in full"),
        ("999.1.1.1", "written in full"),
        ("1.2.3.0x", "written in full"),
        ("[::1]", "neither"),
    ],
)
def test_other_hosts_are_refused_with_the_reason(host: str, why: str) -> None:
    problem = host_problem(host)
    assert problem is not None
    assert why in problem


@pytest.mark.parametrize("disguised", ["ⓛocalhost", "１２７", "ｌan"])
def test_an_international_label_that_means_plain_ascii_is_refused(disguised: str) -> None:
    label = f"xn--{disguised.encode('punycode').decode('ascii')}"
    assert host_problem(f"{label}.com") == "has a malformed international host name"


@given(st.text(max_size=80))
def test_whatever_passes_is_ascii_and_has_a_dot_or_colon(host: str) -> None:
    if host_problem(host) is None:
        assert host.isascii()
        assert "." in host or ":" in host
