"""Whether a device is a nic that can be: its type, its keys, and what its network says of its addresses.

Raises ValueError with LXD's sentence; the servicer makes a fault of it. Pure, but for the rows that it is given.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chassis import errors
from chassis.key_types import quote
from chassis.keys import Config
from rows.network import Network
from services.network.drivers import find
from services.network.drivers.bridge import keys as bridge
from services.network.nics import keys
from services.network.usage import Nic


@dataclass(frozen=True, slots=True)
class Asked:
    """A device as it is asked for; `network` is the row of its network, if it names one that exists."""

    device: Mapping[str, str]
    network: Network | None
    instance: str = ""
    project: str = ""
    name: str = ""


def nictype_of(device: Mapping[str, str], network: Network | None) -> str:
    """How it is connected. Raises ValueError if that does not exist."""
    nictype = device.get("nictype", "")
    if network is not None:
        driver = find(network.type)
        nictype = driver.nictype if driver else ""
    if nictype not in keys.SCHEMAS:
        raise ValueError("Unsupported device type")
    return nictype


def check(asked: Asked, others: Iterable[Nic]) -> str:
    """The nic's type. `others` are the nics that hang on the same network."""
    device = asked.device
    if device.get("network"):
        for key in keys.WITH_NETWORK:
            if device.get(key):
                raise ValueError(f'Cannot use "{key}" property in conjunction with "network" property')
    nictype = nictype_of(device, asked.network)
    if nictype in ("bridged", "macvlan") and not device.get("network") and not device.get("parent"):
        _keys(nictype, device)
        raise ValueError('Invalid value for device option "parent": Required value')
    _keys(nictype, device)
    if nictype == "bridged":
        _bridged(asked, list(others))
    if nictype == "routed":
        _routed(asked, list(others))
    for unbuilt in keys.UNBUILT:
        if device.get(unbuilt.name):
            raise ValueError(
                f'Invalid value for device option "{unbuilt.name}": {device[unbuilt.name]} cannot be done yet'
            )
    return nictype


def _routed(asked: Asked, others: list[Nic]) -> None:
    """`others` are the other nics of the instance."""
    device, config = asked.device, Config(asked.device)
    if device.get("vlan") and not device.get("parent"):
        raise ValueError("The vlan setting can only be used when combined with a parent interface")
    for address, routes in ((keys.ROUTED_IPV4, keys.IPV4_ROUTES), (keys.ROUTED_IPV6, keys.IPV6_ROUTES)):
        found = config[address]
        if config[routes] and not found:
            raise ValueError(f"{routes.name} requires {address.name} to be set")
        for number, text in enumerate(found):
            if text in found[:number]:
                raise ValueError(f'Duplicate address "{text}" in "{address.name}"')
    for gateway in (keys.IPV4_GATEWAY, keys.IPV6_GATEWAY):
        for nic in others if config[gateway] == "auto" else ():
            if nic.config.get("nictype") in ("routed", "ipvlan") and nic.config.get(gateway.name, "auto") == "auto":
                raise ValueError(f'Existing NIC "{nic.device}" already uses "{gateway.name}" in auto mode')


def _keys(nictype: str, device: Mapping[str, str]) -> None:
    try:
        keys.SCHEMAS[nictype].validate(device)
    except errors.Fault as fault:
        raise ValueError(fault.text) from None


def _bridged(asked: Asked, others: list[Nic]) -> None:
    config = Config(asked.device)
    for version, address, filtering in (
        (4, keys.IPV4_ADDRESS, keys.IPV4_FILTERING),
        (6, keys.IPV6_ADDRESS, keys.IPV6_FILTERING),
    ):
        text = config[address]
        if text == "none" and not config[filtering]:
            raise ValueError(f"Cannot have {address.name} as none unless using {filtering.name}")
        if text and text != "none":
            if asked.network is not None:
                _address(asked.network, version, text, filtered=config[filtering])
            elif not _is_address(text, version):
                raise ValueError(
                    f'Invalid value for device option "{address.name}": Not an IPv{version} address {quote(text)}'
                )
            _unique(asked, others, address.name, text, "IP address")
    if config[keys.HWADDR]:
        _unique(asked, others, "hwaddr", config[keys.HWADDR], "MAC address")
    _one_name(asked, others)


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _address(network: Network, version: int, text: str, *, filtered: bool) -> None:
    """A fixed address must be one that the network's DHCP can hand out."""
    config = Config(network.config)
    subnet = bridge.address(config, version)
    name = f"ipv{version}.address"
    where = f'on network "{network.name}"'
    if version == 6 and not filtered and not (config[bridge.IPV6_DHCP] and config[bridge.IPV6_STATEFUL]):
        raise ValueError(
            f'Cannot specify "{name}" when DHCP or "ipv6.dhcp.stateful" are disabled (unless using security.ipv6_filtering) {where}'
        )
    if version == 4 and (subnet is None or not config[bridge.IPV4_DHCP]):
        raise ValueError(
            f'Cannot specify "{name}" when DHCP is disabled (unless using security.ipv4_filtering) {where}'
        )
    if subnet is None or not _is_address(text, version) or ipaddress.ip_address(text) not in subnet.network:
        raise ValueError(f'Device IP address "{text}" not within network "{network.name}" subnet')
    if ipaddress.ip_address(text) == subnet.ip:
        raise ValueError(f'IP address "{text}" is assigned to parent managed network device "{network.name}"')


def _unique(asked: Asked, others: list[Nic], key: str, text: str, what: str) -> None:
    for nic in others if asked.instance else ():
        own = (nic.project, nic.instance, nic.device) == (asked.project, asked.instance, asked.name)
        if not own and nic.config.get(key, "").lower() == text.lower():
            raise ValueError(f'{what} "{text}" already defined on another NIC')


def _one_name(asked: Asked, others: list[Nic]) -> None:
    """Two nics of one instance on one network would share its DNS name."""
    if asked.network is None or Config(asked.network.config)[bridge.DNS_MODE] == "none" or not asked.instance:
        return
    for nic in others:
        if (nic.project, nic.instance) == (asked.project, asked.instance) and nic.device != asked.name:
            raise ValueError(f'Instance DNS name "{asked.instance}" already used on network')
