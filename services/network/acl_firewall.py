"""Network ACLs as chains of a bridge's table. Pure.

They work at the border of the bridge: what passes between two instances on it is not seen. The order is LXD's: dropping rules first, then
refusing, then allowing ones, then the default of the direction; what belongs to an allowed connection always passes, and so do DHCP, DNS
and the ICMP that networks live by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rows.network import AclRule, NetworkAcl
from services.network import acl_rules
from services.network.firewall import (
    ACCEPT,
    DROP,
    FAMILY,
    ICMP6_IN,
    ICMP6_OUT,
    ICMP_IN,
    REJECT,
    Expression,
    Table,
    any_of,
    ip,
    match,
    meta,
    payload,
)

ORDER = ("drop", "reject", "allow")
VERDICTS = {"drop": DROP, "reject": REJECT, "allow": ACCEPT}
INTERFACES = {"ingress": "oifname", "egress": "iifname"}  # seen from the host: into the network leaves by the bridge


@dataclass(frozen=True, slots=True)
class Default:
    """What happens to traffic of one direction that no rule names."""

    action: str = "reject"
    logged: bool = False


def render(
    table_name: str, network: str, acls: Sequence[NetworkAcl], defaults: dict[str, Default]
) -> tuple[dict[str, Any], ...]:
    """Objects for the network's table. Raises ValueError for a subject that a bridge cannot know."""
    if not acls:
        return ()
    table = Table(FAMILY, table_name)
    chain = f"acl.{network}"
    table.chain(chain)
    table.rule(
        chain, {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, ACCEPT
    )
    for action in ORDER:
        for direction, number, rule in _rules(acls):
            if rule.action == action and rule.state != "disabled":
                label = f"{network}-{direction}-{number} " if rule.state == "logged" else ""
                for conditions in _conditions(rule):
                    _add(table, chain, network, direction, conditions, label, action)
    for direction in ("egress", "ingress"):
        default = defaults[direction]
        _add(table, chain, network, direction, [], f"{network}-{direction} " if default.logged else "", default.action)
    _hooks(table, network, chain)
    return tuple(table.objects)


def _rules(acls: Iterable[NetworkAcl]) -> Iterator[tuple[str, int, AclRule]]:
    for acl in acls:
        for direction, rules in (("ingress", acl.ingress), ("egress", acl.egress)):
            for number, rule in enumerate(rules):
                yield direction, number, rule


def _add(
    table: Table, chain: str, network: str, direction: str, conditions: list[Expression], label: str, action: str
) -> None:
    logged = [{"log": {"prefix": label}}] if label else []
    table.rule(chain, match(meta(INTERFACES[direction]), network), *conditions, *logged, VERDICTS[action])


def _conditions(rule: AclRule) -> Iterator[list[Expression]]:
    """One list of conditions for each IP version that the rule is about; one in all if it is about any."""
    sides = {side: acl_rules.subjects(rule, side) for side in ("source", "destination")}
    for subject in (*sides["source"], *sides["destination"]):
        if subject.name:
            raise ValueError(f'Unsupported nftables subject "{subject.name}"')
    versions: list[int] = [0]
    if any(sides.values()):
        versions = [v for v in (4, 6) if all(not s or any(x.version == v for x in s) for s in sides.values())]
    for version in versions:
        conditions = []
        for side, field in (("source", "saddr"), ("destination", "daddr")):
            found = [_range(subject) for subject in sides[side] if subject.version == version]
            if found:
                conditions.append(match(payload(ip(version), field), any_of(found)))
        yield [*conditions, *_protocol(rule)]


def _range(subject: acl_rules.Subject) -> Any:
    if subject.first == subject.last:
        return str(subject.first)
    return {"range": [str(subject.first), str(subject.last)]}


def _protocol(rule: AclRule) -> Iterator[Expression]:
    if rule.protocol in ("icmp4", "icmp6"):
        name = "icmp" if rule.protocol == "icmp4" else "icmpv6"
        if not rule.icmp_type and not rule.icmp_code:
            field = payload("ip", "protocol") if name == "icmp" else payload("ip6", "nexthdr")
            yield match(field, "icmp" if name == "icmp" else "ipv6-icmp")
        for field_name, text in (("type", rule.icmp_type), ("code", rule.icmp_code)):
            if text:
                yield match(payload(name, field_name), int(text))
    elif rule.protocol:
        if not rule.source_port and not rule.destination_port:
            yield match(meta("l4proto"), rule.protocol)
        for field_name, text in (("sport", rule.source_port), ("dport", rule.destination_port)):
            if text:
                yield match(
                    payload(rule.protocol, field_name), any_of([_port(*found) for found in acl_rules.ports(text)])
                )


def _port(first: int, last: int) -> Any:
    return first if first == last else {"range": [first, last]}


def _hooks(table: Table, network: str, chain: str) -> None:
    for name, hook, interface, port, icmp6 in (
        ("aclin", "input", "iifname", "dport", ICMP6_IN),
        ("aclout", "output", "oifname", "sport", ICMP6_OUT),
    ):
        name = f"{name}.{network}"
        table.chain(name, "filter", hook)
        here = match(meta(interface), network)
        table.rule(name, here, match(payload("tcp", port), 53), ACCEPT)
        table.rule(name, here, match(payload("udp", port), any_of([53, 67, 547])), ACCEPT)
        table.rule(name, here, match(payload("icmp", "type"), any_of(ICMP_IN)), ACCEPT)
        table.rule(name, here, match(payload("icmpv6", "type"), any_of(icmp6)), ACCEPT)
        table.rule(name, here, {"jump": {"target": chain}})
    table.chain(f"aclfwd.{network}", "filter", "forward")
    for interface in ("iifname", "oifname"):
        table.rule(f"aclfwd.{network}", match(meta(interface), network), {"jump": {"target": chain}})
