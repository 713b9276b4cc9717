"""The keys of a macvlan network: presets of its nics."""

from __future__ import annotations

from chassis.key_types import Bool, InterfaceName, Str
from chassis.keys import Key, Schema
from services.network.key_types import Mtu, Vlan

PARENT = Key("parent", InterfaceName, required=True, since="network_type_macvlan", doc="Interface that nics hang on")
MTU = Key("mtu", Mtu, since="network_type_macvlan", doc="MTU of its nics")
VLAN = Key("vlan", Vlan, since="network_type_macvlan", doc="VLAN of its traffic")
GVRP = Key("gvrp", Bool, since="network_gvrp", doc="Register the VLAN by GVRP")
USER = Key("user.*", Str, since="network_type_macvlan", doc="Free form")

SCHEMA = Schema(
    "network-macvlan",
    (PARENT, MTU, VLAN, GVRP, USER),
    unknown="Invalid option for network {network} option {key}",
    invalid="Invalid value for network {network} option {key}: {reason}",
)
