"""What a network ACL may say. Pure; every wrong rule is a ValueError with LXD's sentence."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from chassis.key_types import quote
from rows.network import AclRule

ACTIONS = ("allow", "drop", "reject")
STATES = ("enabled", "disabled", "logged")
PROTOCOLS = ("icmp4", "icmp6", "tcp", "udp")
NAMED_SIDE = {"ingress": "source", "egress": "destination"}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Subject:
    """A subnet, or a range of addresses, of one IP version; `name` is an ACL or "@internal", "@external"."""

    text: str
    version: int = 0
    first: Address | None = None
    last: Address | None = None
    name: str = ""


def check_name(name: str) -> None:
    if not name:
        raise ValueError("Name is required")
    if name.startswith("-"):
        raise ValueError('Name must not start with "-" character')
    if name[0].isdigit():
        raise ValueError("Name must not start with a number")
    if not re.fullmatch(r"[-a-zA-Z0-9]+", name, re.ASCII):
        raise ValueError("Name can only contain alphanumeric and hyphen characters")
    if len(name) > 63:
        raise ValueError("Name must be 1-63 characters long")


def check_config(config: Iterable[str]) -> None:
    for key in config:
        if not key.startswith("user."):
            raise ValueError(f"Invalid config option {quote(key)}")


def check_rules(direction: str, rules: Iterable[AclRule]) -> None:
    """`direction` is "ingress" or "egress"."""
    seen: list[AclRule] = []
    for number, rule in enumerate(rules):
        try:
            check_rule(direction, rule)
        except ValueError as reason:
            raise ValueError(f"Invalid {direction} rule {number}: {reason}") from None
        effect = msgspec.structs.replace(rule, description="", state="")
        if effect in seen:
            raise ValueError(f"Duplicate of {direction} rule {seen.index(effect)}")
        seen.append(effect)


def check_rule(direction: str, rule: AclRule) -> None:
    if rule.action not in ACTIONS:
        raise ValueError(f"Action must be one of: {', '.join(ACTIONS)}")
    if rule.state not in STATES:
        raise ValueError(f"State must be one of: {', '.join(STATES)}")
    versions = {
        side: {subject.version for subject in subjects(rule, side, direction) if subject.version}
        for side in ("source", "destination")
    }
    if rule.protocol not in ("", *PROTOCOLS):
        raise ValueError(f"Protocol must be one of: {', '.join(PROTOCOLS)}")
    _ports(rule)
    if rule.protocol.startswith("icmp"):
        _icmp(rule, versions)
    elif rule.icmp_type or rule.icmp_code:
        what = "ICMP type" if rule.icmp_type else "ICMP code"
        raise ValueError(f"{what} cannot be used with non-ICMP protocol")


def subjects(rule: AclRule, side: str, direction: str = "") -> list[Subject]:
    """The subjects of one side; names only where LXD allows them (`direction` empty: everywhere)."""
    text = getattr(rule, side)
    found = []
    for word in str(text).split(",") if text else ():
        try:
            subject = parse_subject(word.strip())
        except ValueError as reason:
            raise ValueError(f"Invalid {side.capitalize()}: {reason}") from None
        if subject.name and direction and NAMED_SIDE[direction] != side:
            if subject.name.startswith("@"):
                raise ValueError(
                    f"Invalid {side.capitalize()}: Named subjects not allowed in "
                    f'"{side.capitalize()}" for "{direction}" rules'
                )
            raise ValueError(f"Invalid {side.capitalize()}: Invalid subject {quote(word)}")
        found.append(subject)
    return found


def parse_subject(text: str) -> Subject:
    """An address, a subnet, a range, or a name."""
    first, dash, last = text.partition("-")
    try:
        if dash:
            start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
            if start.version != end.version or int(start) > int(end):
                raise ValueError
            return Subject(text, start.version, start, end)
        network = ipaddress.ip_network(text, strict=False)
        return Subject(text, network.version, network.network_address, network.broadcast_address)
    except ValueError:
        if text in ("@internal", "@external"):
            return Subject(text, name=text)
    try:
        check_name(text)
    except ValueError:
        raise ValueError(f"Invalid subject {quote(text)}") from None
    return Subject(text, name=text)


def ports(text: str) -> list[tuple[int, int]]:
    """(first, last) of "80,443,8000-8010"."""
    found = []
    for word in text.split(",") if text else ():
        first, dash, last = word.strip().partition("-")
        numbers = [first, last if dash else first]
        for number in numbers:
            if not re.fullmatch(r"[0-9]{1,5}", number, re.ASCII) or int(number) > 65535:
                raise ValueError(f"Invalid port number {quote(number)}")
        if int(numbers[0]) > int(numbers[1]):
            raise ValueError(f"Invalid port range {quote(word)}")
        found.append((int(numbers[0]), int(numbers[1])))
    return found


def _ports(rule: AclRule) -> None:
    for what, text in (("Source port", rule.source_port), ("Destination port", rule.destination_port)):
        if not text:
            continue
        if not rule.protocol:
            raise ValueError(f"{what} cannot be used without specifying protocol")
        if rule.protocol not in ("tcp", "udp"):
            raise ValueError(f"{what} cannot be used with {quote(rule.protocol)} protocol")
        try:
            ports(text)
        except ValueError as reason:
            raise ValueError(f"Invalid {what}: {reason}") from None


def _icmp(rule: AclRule, versions: dict[str, set[int]]) -> None:
    other = 6 if rule.protocol == "icmp4" else 4
    for side, found in versions.items():
        if other in found:
            raise ValueError(f"Cannot use IPv{other} {side} addresses with {quote(rule.protocol)} protocol")
    for what, text in (("ICMP type", rule.icmp_type), ("ICMP code", rule.icmp_code)):
        if text and (not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or int(text) > 255):
            raise ValueError(f"Invalid {what}: Invalid value for an integer {quote(text)}. Must be between 0 and 255")
