"""The keys of a bridge network, and the rules between them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from chassis.key_types import (
    IP,
    Bool,
    Enum,
    InterfaceName,
    IPv4,
    IPv4Range,
    IPv4Subnet,
    IPv6,
    IPv6Range,
    IPv6Subnet,
    List,
    Mac,
    Str,
)
from chassis.keys import Config, Key, Schema
from services.network.key_types import Domain, HostAddress4, HostAddress6, LeaseTime, Mtu, Number, PortNumber, Ttl

DRIVER = Key("bridge.driver", Enum("native", "openvswitch"), default="native", since="network", doc="Bridge driver")
PORTS = Key(
    "bridge.external_interfaces", List(InterfaceName), since="network", doc="Unconfigured interfaces to include"
)
HWADDR = Key("bridge.hwaddr", Mac, since="network_hwaddr", doc="MAC address of the bridge")
MODE = Key("bridge.mode", Enum("standard", "fan"), default="standard", since="network", doc="Bridge operation mode")
MTU = Key("bridge.mtu", Mtu, since="network", doc="Bridge MTU (default 1500, 1400 with tunnels)")
DNS_DOMAIN = Key("dns.domain", Domain, default="lxd", since="network", doc="Domain of DHCP clients and DNS answers")
DNS_MODE = Key(
    "dns.mode", Enum("dynamic", "managed", "none"), default="managed", since="network", doc="How names are registered"
)
ZONE_FORWARD = Key("dns.zone.forward", Str, since="network_dns", doc="DNS zone of its names")
ZONE_REVERSE4 = Key("dns.zone.reverse.ipv4", Str, since="network_dns", doc="DNS zone of its IPv4 addresses")
ZONE_REVERSE6 = Key("dns.zone.reverse.ipv6", Str, since="network_dns", doc="DNS zone of its IPv6 addresses")
ZONES = (ZONE_FORWARD, ZONE_REVERSE4, ZONE_REVERSE6)
DNS_SEARCH = Key("dns.search", List(Domain), since="network_dns_search", doc="Domain search list")
IPV4_ADDRESS = Key("ipv4.address", HostAddress4, since="network", doc='Address of the bridge, "none" or "auto"')
IPV4_DHCP = Key("ipv4.dhcp", Bool, default="true", since="network", doc="Whether to hand out addresses by DHCP")
IPV4_EXPIRY = Key("ipv4.dhcp.expiry", LeaseTime, default="1h", since="network_dhcp_expiry", doc="Life of a lease")
IPV4_GATEWAY = Key("ipv4.dhcp.gateway", IPv4, since="network_dhcp_gateway", doc="Gateway that DHCP announces")
IPV4_RANGES: Key[Any] = Key(
    "ipv4.dhcp.ranges", List(IPv4Range), since="network", doc="Addresses to hand out (FIRST-LAST)"
)
IPV4_FIREWALL = Key(
    "ipv4.firewall", Bool, default="true", since="network_firewall_filtering", doc="Forwarding rules for the network"
)
IPV4_NAT = Key("ipv4.nat", Bool, since="network", doc="Whether to translate source addresses")
IPV4_NAT_ADDRESS = Key("ipv4.nat.address", IPv4, since="network_nat_address", doc="Source address of outgoing traffic")
IPV4_NAT_ORDER = Key(
    "ipv4.nat.order",
    Enum("before", "after"),
    default="before",
    since="network_nat_order",
    doc="Before or after others' rules",
)
IPV4_OVN_RANGES: Key[Any] = Key(
    "ipv4.ovn.ranges", List(IPv4Range), since="network_type_ovn", doc="Addresses for child OVN routers"
)
IPV4_ROUTES = Key("ipv4.routes", List(IPv4Subnet), since="network_routes", doc="Further subnets to route to the bridge")
IPV4_ROUTING = Key(
    "ipv4.routing", Bool, default="true", since="network", doc="Whether to route in and out of the bridge"
)
IPV6_ADDRESS = Key("ipv6.address", HostAddress6, since="network", doc='Address of the bridge, "none" or "auto"')
IPV6_DHCP = Key("ipv6.dhcp", Bool, default="true", since="network", doc="Further network configuration by DHCPv6")
IPV6_EXPIRY = Key("ipv6.dhcp.expiry", LeaseTime, default="1h", since="network_dhcp_expiry", doc="Life of a lease")
IPV6_RANGES: Key[Any] = Key(
    "ipv6.dhcp.ranges", List(IPv6Range), since="network", doc="Addresses to hand out (FIRST-LAST)"
)
IPV6_STATEFUL = Key("ipv6.dhcp.stateful", Bool, since="network", doc="Whether to hand out addresses by DHCPv6")
IPV6_FIREWALL = Key(
    "ipv6.firewall", Bool, default="true", since="network_firewall_filtering", doc="Forwarding rules for the network"
)
IPV6_NAT = Key("ipv6.nat", Bool, since="network", doc="Whether to translate source addresses")
IPV6_NAT_ADDRESS = Key("ipv6.nat.address", IPv6, since="network_nat_address", doc="Source address of outgoing traffic")
IPV6_NAT_ORDER = Key(
    "ipv6.nat.order",
    Enum("before", "after"),
    default="before",
    since="network_nat_order",
    doc="Before or after others' rules",
)
IPV6_OVN_RANGES: Key[Any] = Key(
    "ipv6.ovn.ranges", List(IPv6Range), since="network_type_ovn", doc="Addresses for child OVN routers"
)
IPV6_ROUTES = Key("ipv6.routes", List(IPv6Subnet), since="network_routes", doc="Further subnets to route to the bridge")
IPV6_ROUTING = Key(
    "ipv6.routing", Bool, default="true", since="network", doc="Whether to route in and out of the bridge"
)
RAW_DNSMASQ = Key("raw.dnsmasq", Str, since="network", doc="Further lines of dnsmasq's configuration")
ACLS = Key("security.acls", List(Str), since="network_bridge_acl", doc="ACLs of what passes the bridge's border")
ACL_ACTION = Enum("allow", "drop", "reject")
ACL_INGRESS = Key(
    "security.acls.default.ingress.action",
    ACL_ACTION,
    default="reject",
    since="network_bridge_acl",
    doc="Without a rule",
)
ACL_INGRESS_LOGGED = Key(
    "security.acls.default.ingress.logged", Bool, since="network_bridge_acl", doc="Whether that is logged"
)
ACL_EGRESS = Key(
    "security.acls.default.egress.action",
    ACL_ACTION,
    default="reject",
    since="network_bridge_acl",
    doc="Without a rule",
)
ACL_EGRESS_LOGGED = Key(
    "security.acls.default.egress.logged", Bool, since="network_bridge_acl", doc="Whether that is logged"
)
TUNNEL_PROTOCOL = Key("tunnel.*.protocol", Enum("gre", "vxlan"), since="network", doc="Tunnelling protocol")
TUNNEL_LOCAL = Key("tunnel.*.local", IP, since="network", doc="Local address of the tunnel")
TUNNEL_REMOTE = Key("tunnel.*.remote", IP, since="network", doc="Remote address of the tunnel")
TUNNEL_PORT = Key("tunnel.*.port", PortNumber, default="0", since="network", doc="UDP port of VXLAN (default 4789)")
TUNNEL_ID = Key("tunnel.*.id", Number, default="1", since="network", doc="VXLAN network identifier")
TUNNEL_GROUP = Key("tunnel.*.group", IP, default="239.0.0.1", since="network", doc="Multicast group of VXLAN")
TUNNEL_INTERFACE = Key("tunnel.*.interface", InterfaceName, since="network_vxlan_interface", doc="Carrying interface")
TUNNEL_TTL = Key("tunnel.*.ttl", Ttl, default="1", since="network_vxlan_ttl", doc="TTL of multicast packets")
FAN_OVERLAY = Key(
    "fan.overlay_subnet", IPv4Subnet, default="240.0.0.0/8", since="network", doc="Overlay subnet of a fan"
)
FAN_TYPE = Key("fan.type", Enum("vxlan", "ipip"), default="vxlan", since="network", doc="Tunnelling of a fan")
FAN_UNDERLAY = Key("fan.underlay_subnet", IPv4Subnet, since="network", doc="Underlay subnet of a fan")
USER = Key("user.*", Str, since="network", doc="Free form")


@dataclass(frozen=True)
class Family:
    """The keys of one IP version."""

    version: int
    address: Key[Any]
    dhcp: Key[bool]
    firewall: Key[bool]
    nat: Key[bool]
    nat_address: Key[Any]
    nat_order: Key[str]
    routes: Key[Any]
    routing: Key[bool]


FAMILIES = (
    Family(
        4, IPV4_ADDRESS, IPV4_DHCP, IPV4_FIREWALL, IPV4_NAT, IPV4_NAT_ADDRESS, IPV4_NAT_ORDER, IPV4_ROUTES, IPV4_ROUTING
    ),
    Family(
        6, IPV6_ADDRESS, IPV6_DHCP, IPV6_FIREWALL, IPV6_NAT, IPV6_NAT_ADDRESS, IPV6_NAT_ORDER, IPV6_ROUTES, IPV6_ROUTING
    ),
)


def address4(config: Config) -> IPv4Interface | None:
    """The bridge's IPv4 address with its subnet; None if it has none (yet)."""
    found = config[IPV4_ADDRESS]
    return found if isinstance(found, IPv4Interface) else None


def address6(config: Config) -> IPv6Interface | None:
    found = config[IPV6_ADDRESS]
    return found if isinstance(found, IPv6Interface) else None


def address(config: Config, version: int) -> IPv4Interface | IPv6Interface | None:
    return address4(config) if version == 4 else address6(config)


def tunnels(config: Config) -> list[str]:
    """Names of the tunnels that have a protocol, in order."""
    return sorted(name for (name,), _ in config.each(TUNNEL_PROTOCOL))


def mtu(config: Config) -> int:
    """What the bridge gets: as set, else 1500, or 1400 to leave room for a tunnel's header."""
    return config[MTU] or (1400 if tunnels(config) else 1500)


def _fan(config: Config) -> None:
    if config[MODE] != "fan" and any(name.startswith("fan.") and text for name, text in config.texts.items()):
        raise ValueError("FAN configuration may only be set when in 'fan' mode")


def _ovn_ranges(config: Config) -> None:
    for ranges, dhcp, dhcp_ranges, family in (
        (IPV4_OVN_RANGES, IPV4_DHCP, IPV4_RANGES, "DHCPv4"),
        (IPV6_OVN_RANGES, IPV6_STATEFUL, IPV6_RANGES, "DHCPv6"),
    ):
        for first, last in config[ranges]:
            taken = config[dhcp_ranges]
            if config[dhcp] and (not taken or any(start <= last and first <= end for start, end in taken)):
                raise ValueError(
                    f'"{ranges.name}" must be used in conjunction with non-overlapping "{dhcp_ranges.name}"'
                    f" when {family} is enabled"
                )


KEYS = tuple(found for found in list(globals().values()) if isinstance(found, Key))
SCHEMA = Schema(
    "network-bridge",
    KEYS,
    unknown="Invalid option for network {network} option {key}",
    invalid="Invalid value for network {network} option {key}: {reason}",
    rules=(_fan, _ovn_ranges),
)
