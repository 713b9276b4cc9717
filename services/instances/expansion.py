"""What an instance is made of in the end: its profiles in order, then its own configuration and devices on top.

Pure functions of rows. A device of the same name replaces the whole device, key by key merging does not happen (as in LXD).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rows.instance import Instance
from rows.profile import Profile

Config = dict[str, str]
Device = dict[str, str]
Devices = dict[str, Device]


@dataclass(frozen=True, slots=True)
class Expanded:
    """The merged configuration and devices. Devices of type none are still there: they stand for "not that one"."""

    config: Config
    devices: Devices

    @property
    def active(self) -> Devices:
        """The devices that exist, in the order in which they are attached: disks by path first, then the others by name."""
        found = {name: device for name, device in self.devices.items() if device.get("type") != "none"}
        return dict(sorted(found.items(), key=_order))


def _order(item: tuple[str, Device]) -> tuple[int, str, str]:
    name, device = item
    is_disk = device.get("type") == "disk"
    return (0 if is_disk else 1, device.get("path", "") if is_disk else "", name)


def expand(profiles: Iterable[Profile], config: Mapping[str, str], devices: Mapping[str, Device]) -> Expanded:
    merged: Config = {}
    attached: Devices = {}
    for profile in profiles:
        merged.update(profile.config)
        attached.update(profile.devices)
    merged.update(config)
    attached.update(devices)
    return Expanded(
        {key: text for key, text in sorted(merged.items()) if text != ""},
        {name: dict(device) for name, device in sorted(attached.items())},
    )


def expand_instance(instance: Instance, profiles: Iterable[Profile]) -> Expanded:
    """`profiles` are the rows of `instance.profiles`, in that order."""
    return expand(profiles, instance.config, instance.devices)


def root_disk(devices: Mapping[str, Device]) -> tuple[str, Device]:
    """The device that is the root disk. Raises ValueError in LXD's words if there is none, or more than one."""
    found = [(name, device) for name, device in devices.items() if is_root_disk(device)]
    if not found:
        raise ValueError("No root device could be found")
    if len(found) > 1:
        raise ValueError("More than one root device found")
    return found[0]


def is_root_disk(device: Mapping[str, str]) -> bool:
    return device.get("type") == "disk" and device.get("path") == "/" and not device.get("source")


@dataclass(frozen=True, slots=True)
class DeviceChanges:
    """How one set of devices becomes another: names to remove, to add, and those that change in keys only."""

    removed: Devices
    added: Devices
    updated: dict[str, tuple[Device, Device]]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added or self.updated)


def compare(old: Mapping[str, Device], new: Mapping[str, Device]) -> DeviceChanges:
    """A device whose type changes is removed and added again; devices of type none do not exist."""
    before = {name: device for name, device in old.items() if device.get("type") != "none"}
    after = {name: device for name, device in new.items() if device.get("type") != "none"}
    same_type = {name for name in before.keys() & after.keys() if before[name].get("type") == after[name].get("type")}
    return DeviceChanges(
        {name: device for name, device in before.items() if name not in same_type},
        {name: device for name, device in after.items() if name not in same_type},
        {name: (before[name], after[name]) for name in sorted(same_type) if before[name] != after[name]},
    )


def changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> set[str]:
    """Names whose text differs; an empty text counts as not set."""
    return {key for key in old.keys() | new.keys() if old.get(key, "") != new.get(key, "")}
