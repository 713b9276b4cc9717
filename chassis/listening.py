"""Addresses to listen on, as LXD writes them: "192.0.2.1", "[::1]:8443", ":443", "localhost:https".

The host may be left out, and so may the port, for which each key has its own.
"""

from __future__ import annotations

import ipaddress
import socket

HTTPS, DEBUG, METRICS, DNS = 8443, 8444, 9100, 53  # ports where the address has none
WILDCARDS = ("", "*", "::")
LAST_PORT = 65535


def split(address: str, port: int = HTTPS) -> tuple[str, int]:
    """Host and port. The host is "" for all addresses of both families, the port may be a service's name.

    Raises ValueError, in Go's words.
    """
    host, rest = divide(address)
    return "" if host in WILDCARDS else host, number_of(rest) if rest else port


def divide(address: str) -> tuple[str, str]:
    """Host and port as they were written; "" for what is not there. Raises ValueError."""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket:
            raise ValueError(f"address {address}: missing ']' in address")
        return host, rest.removeprefix(":")
    if address.count(":") == 1:
        host, _, rest = address.partition(":")
        return host, rest
    return address, ""


def number_of(port: str) -> int:
    """Of a port's number or name. Raises ValueError."""
    if port.isdecimal():
        if int(port) > LAST_PORT:
            raise ValueError(f"address {port}: invalid port")
        return int(port)
    try:
        return socket.getservbyname(port)
    except OSError:
        raise ValueError(f"address tcp/{port}: unknown port") from None


def with_port(address: str, port: int) -> str:
    """The address with its port; as it is when it cannot be read."""
    try:
        host, number = split(address, port)
    except ValueError:
        return address
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def is_number(host: str) -> bool:
    """Whether the host is an address. Raises ValueError for what C takes for one and nobody means: "5", "0x10", "1.5"."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            socket.inet_aton(host)
        except OSError:
            return False
        raise
    return True


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two of (host, port) cannot be listened on at once."""
    unspecified = {"", "0.0.0.0"}
    return one[1] == other[1] and (one[0] == other[0] or bool(unspecified & {one[0], other[0]}))
