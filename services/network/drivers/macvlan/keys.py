"""The keys of a macvlan network: presets of its nics. `vlan` and `gvrp` are refused: no VLAN interface is made yet."""

from __future__ import annotations

from chassis.key_types import InterfaceName, Str
from chassis.keys import Key, Schema
from services.network.key_types import Mtu

PARENT = Key("parent", InterfaceName, required=True, since="network_type_macvlan", doc="Interface that nics hang on")
MTU = Key("mtu", Mtu, since="network_type_macvlan", doc="MTU of its nics")
USER = Key("user.*", Str, since="network_type_macvlan", doc="Free form")

SCHEMA = Schema(
    "network-macvlan",
    (PARENT, MTU, USER),
    unknown="Invalid option for network {network} option {key}",
    invalid="Invalid value for network {network} option {key}: {reason}",
)
