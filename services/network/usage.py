"""Who uses a network: the nics of instances and profiles, other networks. Read from the mirrored rows of their owners."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from chassis import errors
from chassis.key_types import is_true, quote
from chassis.references import in_project
from chassis.store import Mirror, Store, Versioned
from rows import restrictions
from rows.control import PROJECT, Project
from rows.instance import INSTANCE, Instance
from rows.network import (
    NETWORK,
    NETWORK_ACL,
    NETWORK_FORWARD,
    NETWORK_ZONE,
    ZONE_RECORD,
    Network,
    NetworkAcl,
    NetworkForward,
    NetworkZone,
    ZoneRecord,
)
from rows.profile import PROFILE, Profile
from services.network.dhcp import Host

T = TypeVar("T", bound=msgspec.Struct)
DEFAULT = "default"
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
ON_PARENT = ("bridged", "macvlan", "ipvlan", "physical", "routed", "sriov")


@dataclass(frozen=True, slots=True)
class Nic:
    """A nic as its instance has it, profiles merged. `volatile` are its volatile.<device>.* keys without that prefix."""

    project: str
    instance: str
    device: str
    config: Mapping[str, str]
    volatile: Mapping[str, str]

    @property
    def hwaddr(self) -> str:
        """The MAC address, "" if it has none (yet)."""
        text = (self.config.get("hwaddr") or self.volatile.get("hwaddr", "")).lower()
        return text if MAC.fullmatch(text) else ""

    @property
    def host_name(self) -> str:
        return self.config.get("host_name") or self.volatile.get("host_name", "")

    @property
    def network(self) -> str:
        """The network or bridge that it hangs on, "" for none."""
        return self.config.get("network") or (
            self.config.get("parent", "") if self.config.get("nictype") == "bridged" else ""
        )

    def dhcp(self) -> Host:
        """What DHCP should know of it; "none" is no address."""
        ipv4, ipv6 = (_address(self.config.get(f"ipv{version}.address", ""), version) for version in (4, 6))
        return Host(self.project, self.instance, self.device, self.hwaddr, ipv4, ipv6)


def _address(text: str, version: int) -> str:
    """The text if it is one address, else "": it goes into a file of dnsmasq, wherever it comes from."""
    try:
        return text if ipaddress.ip_address(text).version == version else ""
    except ValueError:
        return ""


def is_nic(device: Mapping[str, str]) -> bool:
    return device.get("type") == "nic"


def hangs_on(device: Mapping[str, str], network: str) -> bool:
    """Whether a device uses this network, by name or by its interface."""
    return network in _hooks(device)


class Usage:
    """The rows that can refer to networks."""

    def __init__(self, store: Store) -> None:
        self.projects: Mirror[Project] = store.mirror(PROJECT)
        self.instances: Mirror[Instance] = store.mirror(INSTANCE)
        self.profiles: Mirror[Profile] = store.mirror(PROFILE)
        self.networks: Mirror[Network] = store.mirror(NETWORK)
        self.acls: Mirror[NetworkAcl] = store.mirror(NETWORK_ACL)
        self.forwards: Mirror[NetworkForward] = store.mirror(NETWORK_FORWARD)
        self.zones: Mirror[NetworkZone] = store.mirror(NETWORK_ZONE)
        self.records: Mirror[ZoneRecord] = store.mirror(ZONE_RECORD)

    def has(self, project: str, feature: str) -> bool:
        """Whether a project has its own networks or profiles. A project that was not seen counts as having its own profiles only."""
        if project == DEFAULT:
            return True
        row = self.projects.get(project)
        if row is None:
            return feature != "networks"
        return is_true(row.value.config.get(f"features.{feature}", ""))

    def project_of(self, project: str) -> str:
        """The project whose networks this one uses."""
        return project if self.has(project, "networks") else DEFAULT

    def holder(self, project: str) -> str:
        """The project whose networks a request means. Raises NotFound for a project that does not exist."""
        if project and project != DEFAULT and self.projects.get(project) is None:
            raise errors.NotFound(f"Failed to load project {quote(project)}: Project not found")
        return self.project_of(project or DEFAULT)

    def reach(self, project: str, network: str) -> str:
        """The project that holds a network which a request of this one names. Raises NotFound where that is hidden from it."""
        holder = self.holder(project)
        if not restrictions.allows_network(self.config(project), network):
            raise errors.NotFound("Network not found")
        return holder

    def config(self, project: str) -> dict[str, str]:
        row = self.projects.get(project or DEFAULT)
        return row.value.config if row else {}

    def acls_of(self, network: Network) -> list[str]:
        return [name.strip() for name in network.config.get("security.acls", "").split(",") if name.strip()]

    def devices(self, instance: Instance) -> dict[str, dict[str, str]]:
        """Devices with those of the profiles; a device of the same name replaces the whole device."""
        holder = instance.project if self.has(instance.project, "profiles") else DEFAULT
        merged: dict[str, dict[str, str]] = {}
        for name in instance.profiles:
            row = self.profiles.get(holder, name)
            if row is not None:
                merged.update(row.value.devices)
        return merged | instance.devices

    def nics_of(self, instance: Instance) -> Iterator[Nic]:
        for name, device in self.devices(instance).items():
            if is_nic(device):
                prefix = f"volatile.{name}."
                volatile = {key[len(prefix) :]: text for key, text in instance.config.items() if key.startswith(prefix)}
                yield Nic(instance.project, instance.name, name, device, volatile)

    def nics(self, project: str, network: str) -> Iterator[Nic]:
        """Every nic of an instance that hangs on this network of this project."""
        for row in self.instances.select():
            if self.project_of(row.value.project) == project:
                yield from (nic for nic in self.nics_of(row.value) if hangs_on(nic.config, network))

    def users(self, project: str, name: str) -> list[tuple[str, str]]:
        """(URL, project) of each user, in LXD's order: networks, profiles, instances."""
        return self.users_by_network(project).get(name, [])

    def users_by_network(self, project: str) -> dict[str, list[tuple[str, str]]]:
        """The same for every network and interface that is used, in one pass."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for network in _sorted(self.networks.select()):
            value = network.value
            for name in {value.config.get("network"), value.config.get("parent")} - {None, "", value.name}:
                found[str(name)].append((in_project(f"/1.0/networks/{value.name}", value.project), value.project))
        for profile in _sorted(self.profiles.select()):
            holder = profile.value.project
            if self.project_of(holder) == project:
                for name in _used(profile.value.devices):
                    found[name].append((in_project(f"/1.0/profiles/{profile.value.name}", holder), holder))
        for instance in _sorted(self.instances.select()):
            owner = instance.value.project
            if self.project_of(owner) == project:
                for name in _used(self.devices(instance.value)):
                    found[name].append((in_project(f"/1.0/instances/{instance.value.name}", owner), owner))
        return found


def _used(devices: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The networks and interfaces that these devices hang on."""
    return {name for device in devices.values() for name in _hooks(device)}


def _hooks(device: Mapping[str, str]) -> Iterator[str]:
    if is_nic(device):
        if device.get("network"):
            yield device["network"]
        if device.get("nictype") in ON_PARENT and device.get("parent"):
            yield device["parent"]


def _sorted(rows: Iterable[Versioned[T]]) -> list[Versioned[T]]:
    return sorted(rows, key=lambda row: row.key)
