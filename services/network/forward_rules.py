"""What a network forward may say, and what it means for the firewall. Pure; wrong ones are a ValueError with LXD's sentence."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from chassis.key_types import quote
from chassis.keys import Config
from rows.network import ForwardPort, NetworkForward
from services.network import acl_rules
from services.network.drivers.bridge import keys
from services.network.firewall import Forward

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check(forward: NetworkForward, network: dict[str, str]) -> None:
    """`network` is the configuration of the network it belongs to."""
    listen = listen_address(forward.listen_address)
    for key in forward.config:
        if key != "target_address" and not key.startswith("user."):
            raise ValueError(f"Invalid option {quote(key)}")
    subnet = keys.address(Config(network), listen.version)
    if subnet is None:
        raise ValueError(f"invalid CIDR address: {network.get(f'ipv{listen.version}.address', '')}")
    default = forward.config.get("target_address", "")
    if default:
        target = _address(default, "Invalid default target address")
        if target.version != listen.version:
            raise ValueError("Cannot mix IP versions in listen address and default target address")
        if target not in subnet.network:
            raise ValueError("Default target address is not within the network subnet")
    taken: set[tuple[str, int]] = set()
    for number, port in enumerate(forward.ports):
        _check_port(port, number, listen, subnet.network, taken)


def listen_address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(
            f"Failed parsing address forward listen address {quote(text)}: invalid CIDR address: {text}/32"
        ) from None


def _address(text: str, refusal: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(refusal) from None


def _check_port(
    port: ForwardPort,
    number: int,
    listen: Address,
    subnet: ipaddress.IPv4Network | ipaddress.IPv6Network,
    taken: set[tuple[str, int]],
) -> None:
    where = f"in port specification {number}"
    if port.protocol not in ("tcp", "udp"):
        raise ValueError(f"Invalid port protocol {where}, protocol must be one of: tcp, udp")
    target = _address(port.target_address, f"Invalid target address {where}")
    if target.version != listen.version:
        raise ValueError(f"Cannot mix IP versions in listen address and target address {where}")
    if target not in subnet:
        raise ValueError(f"Target address is not within the network subnet {where}")
    if not port.listen_port:
        raise ValueError(f"Missing listen port {where}")
    listening, targets = numbers(port.listen_port), numbers(port.target_port)
    if len(targets) > 1 and len(targets) != len(listening):
        raise ValueError(f"Mismatch of listen port(s) and target port(s) count {where}")
    for one in listening:
        if (port.protocol, one) in taken:
            raise ValueError(f"Duplicate listen port {one} for protocol {quote(port.protocol)} {where}")
        taken.add((port.protocol, one))


def numbers(text: str) -> list[int]:
    """Every port of "80,8000-8010"."""
    return [number for first, last in acl_rules.ports(text) for number in range(first, last + 1)]


def for_firewall(forwards: Iterable[NetworkForward]) -> Iterator[Forward]:
    for forward in forwards:
        for port in forward.ports:
            listening, targets = numbers(port.listen_port), numbers(port.target_port)
            for place, number in enumerate(listening):
                target = number if not targets else targets[0] if len(targets) == 1 else targets[place]
                yield Forward(forward.listen_address, port.target_address, port.protocol, number, target)
        default = forward.config.get("target_address", "")
        if default:
            yield Forward(forward.listen_address, default)
