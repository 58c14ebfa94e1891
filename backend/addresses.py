"""Whom we may connect to for a picture: hosts as they are named, and the addresses that the names stand for.

A task's address is written by whoever imports tasks, so a server that fetches it can be sent to places that only the
server reaches (SSRF). What counts is the address that is connected to: a name can stand for any.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from sam3_core.errors import ImageOutOfReach

_Address = IPv4Address | IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PUBLIC = "public"
_NAME = re.compile(r"(\*|(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*)")
_GLOBAL = ipaddress.IPv6Network("2000::/3")  # of IPv6 all that is given out for public use
# Set aside, which not every version of Python knows.
_ASIDE = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# Where clouds hand out the credentials of the machine itself, beyond the link-local 169.254.169.254: Azure's is in a
# public range, Alibaba's in the carriers', those of AWS and Google for IPv6 in a private one.
_METADATA = frozenset(
    map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"))
)


class AddressRefused(ImageOutOfReach):
    """The picture lies where nothing is fetched from."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """What SAM3_ALLOWED_HOSTS says.

    public: whether all public addresses are open. names: lower case, ``*.`` for everything below a name, ``*`` for
    every name. networks: addresses that are open whatever they are.
    """

    public: bool = True
    names: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """``public``, names, wildcards, addresses and networks, with commas or spaces between. Raises ValueError."""
        entries = text.replace(",", " ").lower().split()
        names: list[str] = []
        networks: list[_Network] = []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
                continue
            except ValueError:
                name = _ascii(entry)
            if name != _PUBLIC:
                if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
                    raise ValueError(
                        f"{entry!r} is no host: what can stand there is `public`, a name, `*.` and a name, an "
                        "address or a network"
                    )
                names.append(name)
        return cls(_PUBLIC in entries, tuple(names), tuple(networks))

    def allow(self, host: str, address: str) -> bool:
        """Whether a host that stands for an address is open.

        A listed name may be private. It may not be link-local or one of the clouds' metadata services, where
        credentials lie: those are open only as networks.
        """
        found = _plain(address)
        if any(found in network for network in self.networks):
            return True
        if self.names_host(host):
            return not (_is_metadata(found) or found.is_multicast or found.is_reserved or found.is_unspecified)
        return self.public and _is_public(found)

    def names_host(self, host: str) -> bool:
        """Whether a host is among the names."""
        name = _ascii(host)
        return any(
            name.endswith(known[1:]) if known.startswith("*.") else known in (name, "*") for known in self.names
        )


@dataclass(frozen=True, slots=True)
class Home:
    """Where a Label Studio says it is, and who says so.

    sender: None where the person who set this server up named it, or somebody who knows this server's login. Else
    the IP address from which it introduced itself: anybody may do that, so it is believed to be there, nowhere else.
    """

    host: str
    port: int
    sender: str | None = None

    def is_at(self, host: str, port: int, address: str) -> bool:
        """Whether it is meant by a host and port, and may be at the address that they stand for."""
        if (_ascii(host), port) != (_ascii(self.host), self.port):
            return False
        return self.sender is None or _same_machine(self.sender, address)


@dataclass(frozen=True, slots=True)
class Door:
    """What is open to one fetch: the allowed hosts, and the Label Studio that the task came from."""

    hosts: Hosts
    home: Home | None = None

    def opens(self, host: str, port: int, address: str) -> bool:
        """Whether ``address``, which ``host`` stands for, may be connected to."""
        return self.hosts.allow(host, address) or (self.home is not None and self.home.is_at(host, port, address))

    def refusal(self, host: str, port: int) -> AddressRefused:
        """Why not, and what opens it. Says nothing about the address: names of a private network are its own."""
        home = self.home
        if home is not None and (_ascii(host), port) == (_ascii(home.host), home.port):
            return AddressRefused(
                f"Label Studio introduced itself as {host}:{port}, which is neither public nor where its request "
                "came from: set SAM3_LABEL_STUDIO_URL"
            )
        what = "no public address" if self.hosts.public else "not among the allowed hosts"
        return AddressRefused(f"{host} is {what}: nothing is fetched there unless SAM3_ALLOWED_HOSTS names it")

    def check_named(self, host: str, port: int) -> None:
        """For what a proxy connects to: the same by the addresses the name has here, where it has any.

        Raises AddressRefused.
        """
        try:
            found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError):  # only the proxy knows it
            allowed = self.hosts.public or self.hosts.names_host(host)
        else:
            allowed = all(self.opens(host, port, address) for address in found)
        if not allowed:
            raise self.refusal(host, port)


def _plain(address: str) -> _Address:
    """The address itself, of one that carries an IPv4 address the carried one (mapped, 6to4, NAT64)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            return IPv4Address(int(found) & 0xFFFFFFFF)
        return found.ipv4_mapped or found.sixtofour or found
    return found


def _is_public(address: _Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL:
        return False
    aside = address.is_multicast or any(address in network for network in _ASIDE)
    return address.is_global and not aside and not _is_metadata(address)


def _is_metadata(address: _Address) -> bool:
    return address.is_link_local or address in _METADATA


def _same_machine(one: str, other: str) -> bool:
    """Whether two addresses are equal, or are both this machine's."""
    first, second = _plain(one), _plain(other)
    return first == second or (_is_ours(first) and _is_ours(second))


def _is_ours(address: _Address) -> bool:
    """Only an address of this machine can be listened on."""
    if address.is_unspecified or address.is_multicast:
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as listener:
            listener.bind((str(address), 0))
    except OSError:
        return False
    return True


def _ascii(host: str) -> str:
    """A host as it is looked up: lower case, without the brackets of IPv6 and a last dot, Unicode encoded."""
    host = host.strip("[]").rstrip(".").lower()
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host
