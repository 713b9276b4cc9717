"""The keys of nics, one schema a type."""

from __future__ import annotations

from typing import Any

from chassis.key_types import (
    BitRate,
    Bool,
    InterfaceName,
    IPv4,
    IPv4Subnet,
    IPv6,
    IPv6Subnet,
    List,
    Mac,
    Str,
    Type,
    Uint32,
)
from chassis.keys import Key, Schema
from services.network.key_types import Mtu, Vlan

TYPE = Key("type", Str, doc="Always nic")
NICTYPE = Key("nictype", Str, doc="How the nic is connected, if not by a managed network")
NETWORK = Key("network", Str, since="instance_nic_network", doc="Managed network to connect to")
PARENT = Key("parent", Str, doc="Interface of the host that it hangs on")
NAME = Key("name", InterfaceName, live=False, doc="Name of the interface inside the instance")
HWADDR = Key("hwaddr", Mac, live=False, doc="MAC address")
MTU = Key("mtu", Mtu, live=False, doc="MTU of the interface")
HOST_NAME = Key("host_name", InterfaceName, live=False, doc="Name of the interface on the host")
BOOT_PRIORITY = Key("boot.priority", Uint32, doc="Boot order of a virtual machine")
INGRESS = Key("limits.ingress", BitRate, doc="Traffic into the instance, bit/s")
EGRESS = Key("limits.egress", BitRate, doc="Traffic out of the instance, bit/s")
MAX = Key("limits.max", BitRate, doc="Both directions")
IPV4_ADDRESS = Key("ipv4.address", Str, since="network", doc="Address that DHCP hands out")
IPV6_ADDRESS = Key("ipv6.address", Str, since="network", doc="Address that DHCP hands out")
IPV4_ROUTES = Key("ipv4.routes", List(IPv4Subnet), since="container_nic_routes", doc="Subnets routed to the nic")
IPV6_ROUTES = Key("ipv6.routes", List(IPv6Subnet), since="container_nic_routes", doc="Subnets routed to the nic")
IPV4_EXTERNAL = Key("ipv4.routes.external", List(IPv4Subnet), since="network_bgp", doc="Subnets announced for it")
IPV6_EXTERNAL = Key("ipv6.routes.external", List(IPv6Subnet), since="network_bgp", doc="Subnets announced for it")
MAC_FILTERING = Key("security.mac_filtering", Bool, since="network", doc="Only its own MAC address may send")
IPV4_FILTERING = Key("security.ipv4_filtering", Bool, since="container_nic_ipfilter", doc="Only its own IPv4 addresses")
IPV6_FILTERING = Key("security.ipv6_filtering", Bool, since="container_nic_ipfilter", doc="Only its own IPv6 addresses")
ISOLATION = Key(
    "security.port_isolation", Bool, since="instance_nic_bridged_port_isolation", doc="No traffic between isolated nics"
)
VLAN = Key("vlan", Vlan, since="network_vlan", doc="VLAN of the traffic")
GVRP = Key("gvrp", Bool, since="network_gvrp", doc="Register the VLAN by GVRP")
ROUTED_IPV4 = Key("ipv4.address", List(IPv4), since="container_nic_routed", doc="Its addresses")
ROUTED_IPV6 = Key("ipv6.address", List(IPv6), since="container_nic_routed", doc="Its addresses")


def _checked_gateway(text: str) -> str:
    if text not in ("auto", "none"):
        raise ValueError(f"Invalid gateway: {text}")
    return text


GATEWAY = Type("string", _checked_gateway, "")
IPV4_GATEWAY = Key("ipv4.gateway", GATEWAY, default="auto", since="container_nic_routed_gateway", doc="Default route")
IPV6_GATEWAY = Key("ipv6.gateway", GATEWAY, default="auto", since="container_nic_routed_gateway", doc="Default route")
IPV4_HOST = Key(
    "ipv4.host_address", IPv4, default="169.254.0.1", since="container_nic_routed_host_address", doc="Host's address"
)
IPV6_HOST = Key(
    "ipv6.host_address", IPv6, default="fe80::1", since="container_nic_routed_host_address", doc="Host's address"
)
IPV4_TABLE = Key("ipv4.host_table", Uint32, since="container_nic_routed_host_table", doc="A further routing table")
IPV6_TABLE = Key("ipv6.host_table", Uint32, since="container_nic_routed_host_table", doc="A further routing table")
IPV4_PROBE = Key(
    "ipv4.neighbor_probe", Bool, default="true", since="instance_nic_routed_neighbor_probe", doc="Check before use"
)
IPV6_PROBE = Key(
    "ipv6.neighbor_probe", Bool, default="true", since="instance_nic_routed_neighbor_probe", doc="Check before use"
)

# Known, checked, and refused when set: no VLAN interface is made yet, and nothing announces routes.
UNBUILT = (VLAN, GVRP, IPV4_EXTERNAL, IPV6_EXTERNAL)

COMMON = (TYPE, NICTYPE, NAME, HWADDR, MTU, BOOT_PRIORITY)
PAIR = (HOST_NAME, INGRESS, EGRESS, MAX, IPV4_ROUTES, IPV6_ROUTES)


def _schema(name: str, *keys: Key[Any]) -> Schema:
    return Schema(
        f"nic-{name}",
        (*COMMON, *keys),
        unknown="Invalid device option {key}",
        invalid="Invalid value for device option {key}: {reason}",
    )


BRIDGED = _schema(
    "bridged",
    *PAIR,
    NETWORK,
    PARENT,
    IPV4_ADDRESS,
    IPV6_ADDRESS,
    IPV4_EXTERNAL,
    IPV6_EXTERNAL,
    MAC_FILTERING,
    IPV4_FILTERING,
    IPV6_FILTERING,
    ISOLATION,
)
P2P = _schema("p2p", *PAIR)
MACVLAN = _schema("macvlan", NETWORK, PARENT, VLAN, GVRP)
ROUTED = _schema(
    "routed",
    *PAIR,
    PARENT,
    VLAN,
    GVRP,
    ROUTED_IPV4,
    ROUTED_IPV6,
    IPV4_GATEWAY,
    IPV6_GATEWAY,
    IPV4_HOST,
    IPV6_HOST,
    IPV4_TABLE,
    IPV6_TABLE,
    IPV4_PROBE,
    IPV6_PROBE,
)
SCHEMAS = {"bridged": BRIDGED, "p2p": P2P, "macvlan": MACVLAN, "routed": ROUTED}
WITH_NETWORK = ("nictype", "parent", "mtu")  # what a managed network decides for its nics
