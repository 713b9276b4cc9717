"""The nftables rules of a managed network, as libnftables' JSON objects. Pure: what is computed here, nftables.py applies.

Each network has one table `inet nubibus_<server>_<network>` that is replaced in one transaction, so several servers live on one machine
and no moment has half a rule set. Chains are named as LXD names them. A chain's order among other tables' is its priority.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Expression = dict[str, Any]
FAMILY = "inet"
SRCNAT, DSTNAT = 100, -100
ACCEPT: Expression = {"accept": None}
DROP: Expression = {"drop": None}
REJECT: Expression = {"reject": {"type": "icmpx", "expr": "port-unreachable"}}
ICMP_IN = ["destination-unreachable", "time-exceeded", "parameter-problem"]
ICMP6_IN = [
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
    "nd-router-solicit",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "mld2-listener-report",
]
ICMP6_OUT = [
    "destination-unreachable",
    "packet-too-big",
    "time-exceeded",
    "parameter-problem",
    "echo-request",
    "nd-router-advert",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "mld2-listener-report",
]


@dataclass(frozen=True, slots=True)
class Family:
    """What one IP version of a network wants of the firewall. `subnet` is masqueraded, or translated to `nat_address`."""

    version: int
    subnet: str
    nat: bool = False
    nat_address: str = ""
    nat_after: bool = False
    services: bool = True  # DHCP, DNS and ICMP of the host are reachable
    forward: bool | None = True  # accept, reject, or no rule


@dataclass(frozen=True, slots=True)
class Forward:
    """Traffic to `listen` (an address) goes to `target`; `port` maps one listening port of a protocol."""

    listen: str
    target: str
    protocol: str = ""
    port: int = 0
    target_port: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """All that one network's table is made of. `acl` are the objects of its ACL chains, already rendered."""

    network: str
    families: tuple[Family, ...] = ()
    forwards: tuple[Forward, ...] = ()
    acl: tuple[Object, ...] = field(default=())


def match(left: Expression, right: Any, op: str = "==") -> Expression:
    return {"match": {"op": op, "left": left, "right": right}}


def meta(key: str) -> Expression:
    return {"meta": {"key": key}}


def payload(protocol: str, name: str) -> Expression:
    return {"payload": {"protocol": protocol, "field": name}}


def prefix(subnet: str) -> Any:
    """A subnet as an expression; a single address as itself."""
    network = ipaddress.ip_network(subnet, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


def any_of(values: Sequence[Any]) -> Any:
    return {"set": list(values)} if len(values) != 1 else values[0]


def is_version(version: int) -> Expression:
    return match(payload("ip" if version == 4 else "ip6", "version"), version)


def ip(version: int) -> str:
    return "ip" if version == 4 else "ip6"


@dataclass(slots=True)
class Table:
    """Collects the objects of one table."""

    family: str
    name: str
    objects: list[Object] = field(default_factory=list)

    def chain(self, name: str, type_: str = "", hook: str = "", priority: int = 0, policy: str = "accept") -> None:
        """A base chain if it has a hook."""
        chain: Object = {"family": self.family, "table": self.name, "name": name}
        if hook:
            chain |= {"type": type_, "hook": hook, "prio": priority, "policy": policy}
        self.objects.append({"chain": chain})

    def rule(self, chain: str, *expressions: Expression) -> None:
        rule = {"family": self.family, "table": self.name, "chain": chain, "expr": list(expressions)}
        self.objects.append({"rule": rule})


def table_name(server: str, owner: str) -> str:
    """The table of a network or of a nic (by its host interface)."""
    return f"{prefix_of(server)}{owner}"


def prefix_of(server: str) -> str:
    """What the names of all tables of a server begin with."""
    return f"nubibus_{server}_"


def render(server: str, rules: Rules) -> list[Object]:
    """The objects of the network's table; empty if it wants none."""
    table = Table(FAMILY, table_name(server, rules.network))
    _nat(table, rules)
    _forwarding(table, rules)
    _services(table, rules)
    _forwards(table, rules)
    return [*table.objects, *rules.acl]


def _nat(table: Table, rules: Rules) -> None:
    for order, priority in (("", SRCNAT - 1), (".after", SRCNAT + 1)):
        families = [family for family in rules.families if family.nat and family.nat_after == bool(order)]
        if not families:
            continue
        chain = f"pstrt.{rules.network}{order}"
        table.chain(chain, "nat", "postrouting", priority)
        for family in families:
            subnet = prefix(family.subnet)
            target: Expression = {"masquerade": None}
            if family.nat_address:
                target = {"snat": {"family": ip(family.version), "addr": family.nat_address}}
            table.rule(
                chain,
                match(payload(ip(family.version), "saddr"), subnet),
                match(payload(ip(family.version), "daddr"), subnet, "!="),
                target,
            )


def _forwarding(table: Table, rules: Rules) -> None:
    families = [family for family in rules.families if family.forward is not None]
    if not families:
        return
    chain = f"fwd.{rules.network}"
    table.chain(chain, "filter", "forward")
    for family in families:
        for direction in ("oifname", "iifname"):
            verdict = ACCEPT if family.forward else REJECT
            table.rule(chain, is_version(family.version), match(meta(direction), rules.network), verdict)


def _services(table: Table, rules: Rules) -> None:
    """DHCP, DNS and the ICMP that networks live by, between the host and its bridge."""
    versions = [family.version for family in rules.families if family.services]
    if not versions:
        return
    sides = (("in", "input", "iifname", "dport", ICMP6_IN), ("out", "output", "oifname", "sport", ICMP6_OUT))
    for chain, hook, interface, port, icmp6 in sides:
        chain = f"{chain}.{rules.network}"
        table.chain(chain, "filter", hook)
        here = match(meta(interface), rules.network)
        table.rule(chain, here, match(payload("tcp", port), 53), ACCEPT)
        table.rule(chain, here, match(payload("udp", port), 53), ACCEPT)
        if 4 in versions:
            table.rule(chain, here, match(payload("icmp", "type"), any_of(ICMP_IN)), ACCEPT)
            table.rule(chain, here, match(payload("udp", port), 67), ACCEPT)
        if 6 in versions:
            table.rule(chain, here, match(payload("icmpv6", "type"), any_of(icmp6)), ACCEPT)
            table.rule(chain, here, match(payload("udp", port), 547), ACCEPT)


def _forwards(table: Table, rules: Rules) -> None:
    """Destination NAT for what comes in and for the host itself; an instance that reaches itself this way needs its source rewritten."""
    if not rules.forwards:
        return
    network = rules.network
    chains = (("fwdprert", "prerouting", DSTNAT), ("fwdout", "output", DSTNAT))
    for name, hook, priority in chains:
        table.chain(f"{name}.{network}", "nat", hook, priority)
    table.chain(f"fwdpstrt.{network}", "nat", "postrouting", SRCNAT)
    for forward in sorted(rules.forwards, key=lambda entry: not entry.port):  # ports before the default target
        version = ipaddress.ip_address(forward.listen).version
        family = ip(version)
        conditions = [match(payload(family, "daddr"), forward.listen)]
        target: Expression = {"family": family, "addr": forward.target}
        if forward.port:
            conditions.append(match(payload(forward.protocol, "dport"), forward.port))
            target["port"] = forward.target_port or forward.port
        for name, _, _ in chains:
            table.rule(f"{name}.{network}", *conditions, {"dnat": target})
        itself = [match(payload(family, "saddr"), forward.target), match(payload(family, "daddr"), forward.target)]
        if forward.port:
            itself.append(match(payload(forward.protocol, "dport"), forward.target_port or forward.port))
        table.rule(f"fwdpstrt.{network}", *itself, {"masquerade": None})
