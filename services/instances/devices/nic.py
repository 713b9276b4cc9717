"""Type nic. The host's side belongs to the network service; here the interface is handed to the instance and taken back.

A nic without a MAC address or without a name inside is given them when it comes to the instance, and keeps them in volatile.<device>.*
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.instances.devices.device import Attached, Inert, Owner, Texts
from services.instances.expansion import Devices
from services.instances.host.spec import Key, NicSpec
from services.instances.keys import volatile
from services.instances.names import drawn_host_name, drawn_hwaddr
from services.instances.neighbours import NicOf

if TYPE_CHECKING:
    from services.instances.parts import Parts

KEPT = ("hwaddr", "name")
WITHOUT_HWADDR = frozenset({"physical", "ipvlan", "sriov"})


class Nic(Inert):
    name = "nic"

    def check(self, device: str, config: Texts) -> None:
        if not config.get("nictype") and not config.get("network"):
            raise ValueError(f'Failed loading device "{device}": Unsupported device type')

    async def validate(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        await parts.nics.validate(owner.project, owner.instance, device, config, owner.type)

    async def attach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        kept = owner.volatile
        found = await parts.nics.attach(_nic(device, config, owner, kept))
        guest = config.get("name") or kept.get("name") or found.guest_name or device
        changed = {**{key: kept[key] for key in KEPT if key in kept}, **found.volatile, "host_name": found.host_name}
        spec = NicSpec(found.peer_name, guest, found.hwaddr, found.mtu, found.addresses, found.gateways)
        return Attached(nic=spec, volatile=changed)

    async def detach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        await parts.nics.detach(_nic(device, config, owner, owner.volatile))

    async def plug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        attached = await self.attach(parts, device, config, owner)
        assert attached.nic is not None
        await parts.host.attach_nic(Key(owner.project, owner.instance), attached.nic)
        return attached

    async def unplug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        guest = config.get("name") or owner.volatile.get("name") or device
        await parts.host.detach_nic(Key(owner.project, owner.instance), guest)
        await self.detach(parts, device, config, owner)

    async def change(
        self, parts: Parts, device: str, old: Texts, new: Texts, owner: Owner, running: bool
    ) -> dict[str, str]:
        """What the network service changes in place is changed there; for the rest the nic is taken away and given anew."""
        if not running:
            return {}
        if all(key.startswith(("limits.", "security.", "ipv4.", "ipv6.", "boot.")) for key in _differing(old, new)):
            await parts.nics.update(_nic(device, new, owner, owner.volatile))
            return {}
        await self.unplug(parts, device, old, owner)
        return (await self.plug(parts, device, new, owner)).volatile


def _differing(old: Texts, new: Texts) -> set[str]:
    return {key for key in old.keys() | new.keys() if old.get(key, "") != new.get(key, "")}


def _nic(device: str, config: Texts, owner: Owner, kept: Texts) -> NicOf:
    return NicOf(owner.project, owner.instance, owner.type, device, config, kept)


def fill(config: Mapping[str, str], devices: Devices) -> dict[str, str]:
    """The instance's configuration with a MAC address and a name inside for each nic that has none."""
    filled = dict(config)
    for device, given in sorted(devices.items()):
        if given.get("type") != "nic":
            continue
        if not given.get("hwaddr") and given.get("nictype") not in WITHOUT_HWADDR:
            filled.setdefault(volatile.HWADDR.at(device), drawn_hwaddr())
        if not given.get("name"):
            filled.setdefault(volatile.NAME.at(device), _free_name(filled, devices))
    return filled


def drawn(config: Mapping[str, str], devices: Devices) -> dict[str, dict[str, str]]:
    """What is drawn for the nics when they are about to be attached: a host name for this time, and what `fill` gives. By device."""
    filled = fill(config, devices)
    found = {}
    for device, given in devices.items():
        if given.get("type") == "nic":
            kept = volatile.of_device(filled, device)
            names = {} if given.get("host_name") else {"host_name": drawn_host_name()}
            found[device] = {**{key: kept[key] for key in KEPT if key in kept}, **names}
    return found


def _free_name(config: Mapping[str, str], devices: Devices) -> str:
    taken = {device.get("name") for device in devices.values() if device.get("type") == "nic"}
    taken |= {text for name, text in config.items() if volatile.NAME.match(name)}
    return next(name for number in range(10000) if (name := f"eth{number}") not in taken)


async def forget_nic(
    parts: Parts, project: str, instance: str, type_: str, device: str, config: Texts, kept: Texts
) -> None:
    """The nic will not come back: neither its interface nor its leases are needed any more."""
    nic = NicOf(project, instance, type_, device, config, kept)
    await parts.nics.detach(nic)
    await parts.nics.forget(nic)
