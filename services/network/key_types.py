"""Types of network and nic keys that only this service has, with LXD's sentences."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from chassis.key_types import Enum, Or, Type, quote

Cidr = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _mtu(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        raise ValueError(f"Invalid MTU {quote(text)}")
    if not 1280 <= int(text) <= 16384:
        raise ValueError(f"Out of MTU range (1280-16384) {quote(text)}")
    return int(text)


def _between(least: int, most: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not least <= int(text) <= most:
            wrong = f"Invalid value for an integer {quote(text)}"
            raise ValueError(wrong if most == 2**32 - 1 else f"{wrong}. Must be between {least} and {most}")
        return int(text)

    return check


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        raise ValueError(f"Invalid value for an integer {quote(text)}")
    if int(text) > 65535:
        raise ValueError(f"Invalid port number: {text}")
    return int(text)


def _host_address(version: int) -> Callable[[str], Any]:
    """An address with its subnet's length, neither the subnet's own address nor of the other family."""

    def check(text: str) -> Any:
        try:
            found = ipaddress.ip_interface(text)
        except ValueError:
            raise ValueError(f"invalid CIDR address: {text}") from None
        if "/" not in text:
            raise ValueError(f"invalid CIDR address: {text}")
        if found.version != version:
            raise ValueError(f"Not an IPv{version} address {quote(text)}")
        if found.ip == found.network.network_address:
            raise ValueError(f"Not a usable IPv{version} address {quote(text)}")
        return found

    return check


def _vlan(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII):
        raise ValueError(f"Invalid VLAN ID {quote(text)}")
    if int(text) > 4094:
        raise ValueError(f"Out of VLAN ID range (0-4094) {quote(text)}")
    return int(text)


def _domain(text: str) -> str:
    """A DNS domain. 5.0.2 takes any text; here it must be one, since dnsmasq's options divide at commas."""
    if not re.fullmatch(r"[A-Za-z0-9_]([-A-Za-z0-9_.]{0,252})", text, re.ASCII):
        raise ValueError(f"Invalid domain name {quote(text)}")
    return text


def _duration(text: str) -> str:
    """Any time that dnsmasq may know; it has the last word (`--test`), but no comma can make it another option."""
    if not re.fullmatch(r"[A-Za-z0-9]+", text, re.ASCII):
        raise ValueError(f"Invalid lease time {quote(text)}")
    return text


Mtu: Type[int] = Type("MTU", _mtu, 0)
Ttl: Type[int] = Type("integer", _between(0, 255), 0)
Number: Type[int] = Type("integer", _between(0, 2**32 - 1), 0)
PortNumber: Type[int] = Type("port", _port, 0)
Vlan: Type[int] = Type("VLAN ID", _vlan, 0)
Domain: Type[str] = Type("domain", _domain, "")
LeaseTime: Type[str] = Type("lease time", _duration, "")
HostAddress4: Type[Any] = Or(Enum("none", "auto"), Type("IPv4 CIDR", _host_address(4), None))
HostAddress6: Type[Any] = Or(Enum("none", "auto"), Type("IPv6 CIDR", _host_address(6), None))
