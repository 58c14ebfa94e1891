"""Whom we may connect to: ranges, names, and who is believed to be where."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.addresses import AddressRefused, Door, Home, Hosts

PUBLIC = Hosts()
CLOSED = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2001::1", "100::1", "4000::1",
]  # fmt: skip
OPEN = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", CLOSED)
def test_nothing_but_public_addresses_by_itself(address: str) -> None:
    assert not PUBLIC.allow("cdn.example.com", address)


@pytest.mark.parametrize("address", OPEN)
def test_public_addresses(address: str) -> None:
    assert PUBLIC.allow("cdn.example.com", address)
    assert not Hosts.parse("other.example.com").allow("cdn.example.com", address)


@given(st.ip_addresses(v=4))
def test_every_way_to_write_an_ipv4_address_is_judged_alike(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    carried = [f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"]
    carried.append(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))))
    judged = PUBLIC.allow("x", str(address))
    assert [PUBLIC.allow("x", one) for one in carried] == [judged] * 3
    assert judged <= address.is_global


@pytest.mark.parametrize(
    ("setting", "host", "address", "allowed"),
    [
        ("minio", "minio", "172.18.0.5", True),
        ("minio", "MINIO.", "172.18.0.5", True),
        ("minio", "minio.evil.com", "8.8.8.8", False),
        ("*.corp.example", "a.b.corp.example", "10.0.0.1", True),
        ("*.corp.example", "corp.example", "10.0.0.1", False),
        ("*.corp.example", "evilcorp.example", "10.0.0.1", False),
        ("bücher.example", "xn--bcher-kva.example", "10.0.0.1", True),
        ("*", "anything", "127.0.0.1", True),
        ("*", "anything", "169.254.169.254", False),
        ("*", "anything", "fd00:ec2::254", False),
        ("*", "anything", "0.0.0.0", False),
        ("169.254.169.254", "anything", "169.254.169.254", True),
        ("10.0.0.0/8, public", "anything", "10.9.9.9", True),
        ("10.0.0.0/8, public", "anything", "8.8.8.8", True),
        ("10.0.0.0/8", "anything", "8.8.8.8", False),
        ("10.0.0.0/8", "anything", "::ffff:10.0.0.1", True),
        ("10.1.2.3", "x", "10.1.2.4", False),
        ("fd00::/8 public", "x", "fd12::1", True),
        ("", "x", "8.8.8.8", False),
    ],
)
def test_what_a_setting_opens(setting: str, host: str, address: str, allowed: bool) -> None:
    assert Hosts.parse(setting).allow(host, address) is allowed


@pytest.mark.parametrize(
    "setting", ["http://host", "host:80", "a b*", "*.*", "10.0.0.0/99", "1.2.3", "-", "a..b", "*x", "256.1.1.1", "["]
)
def test_what_is_no_host(setting: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Hosts.parse(setting)


# ---- who is believed ---------------------------------------------------------------------------------------------


def test_a_configured_label_studio_may_be_anywhere_at_its_own_port() -> None:
    door = Door(PUBLIC, Home("label-studio", 8080))
    assert door.opens("label-studio", 8080, "172.18.0.2")
    assert door.opens("Label-Studio.", 8080, "127.0.0.1")
    assert not door.opens("label-studio", 6379, "172.18.0.2")
    assert not door.opens("redis", 8080, "172.18.0.2")


@pytest.mark.parametrize(
    ("sender", "address", "believed"),
    [
        ("172.18.0.2", "172.18.0.2", True),  # in one compose network
        ("172.18.0.2", "::ffff:172.18.0.2", True),
        ("172.18.0.2", "172.18.0.3", False),  # a neighbour says that it is another
        ("172.18.0.2", "127.0.0.1", False),  # or that it is us
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "169.254.169.254", False),
        ("127.0.0.1", "10.99.99.99", False),
        ("8.8.8.8", "127.0.0.1", False),
        ("8.8.8.8", "10.0.0.1", False),
    ],
)
def test_who_introduces_itself_is_believed_to_be_where_it_spoke_from(
    sender: str, address: str, believed: bool
) -> None:
    assert Door(PUBLIC, Home("ls", 8080, sender)).opens("ls", 8080, address) is believed


def test_all_addresses_of_this_machine_are_one_place() -> None:
    """Label Studio calls itself localhost, and reaches us by the machine's other address; or the other way round."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has one address")
        other = route.getsockname()[0]
    assert Door(PUBLIC, Home("localhost", 8080, other)).opens("localhost", 8080, "127.0.0.1")
    assert Door(PUBLIC, Home("box", 8080, "127.0.0.1")).opens("box", 8080, other)


def test_the_sentence_names_the_setting_and_no_address() -> None:
    assert "SAM3_ALLOWED_HOSTS" in str(Door(PUBLIC).refusal("nas.corp", 80))
    assert "SAM3_LABEL_STUDIO_URL" in str(Door(PUBLIC, Home("ls", 80, "8.8.8.8")).refusal("ls", 80))
    assert "allowed hosts" in str(Door(Hosts.parse("a.b")).refusal("nas.corp", 80))


def test_what_a_proxy_fetches_is_judged_by_its_name() -> None:
    with pytest.raises(AddressRefused):
        Door(PUBLIC).check_named("localhost", 80)
    with pytest.raises(AddressRefused):
        Door(Hosts.parse("a.b")).check_named("no-such-host.invalid", 80)
    Door(Hosts.parse("localhost")).check_named("localhost", 80)
    Door(PUBLIC).check_named("no-such-host.invalid", 80)  # the proxy may know it
