"""Live states as LXD writes them: counters of the kernel from the host layer, space used from the storage service.

Many at once cost little more than one, and their askers share a sample for a moment; who asks for one gets what is now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from chassis import documents
from chassis.errors import Fault
from services.instances.document import status_of
from services.instances.expansion import root_disk
from services.instances.host.spec import Key
from services.instances.host.state import sample
from services.instances.keys import volatile
from services.instances.parts import Parts
from services.instances.roster import Member

NOTHING: dict[str, Any] = {
    "disk": {},
    "memory": {"usage": 0, "usage_peak": 0, "swap_usage": 0, "swap_usage_peak": 0},
    "network": None,
    "pid": 0,
    "processes": 0,
    "cpu": {"usage": 0},
}
QUOTA_DRIVERS = frozenset({"btrfs", "zfs", "lvm", "ceph"})  # drivers that know the space used without walking the files


class States:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def rendered(self, member: Member) -> bytes:
        return documents.render(await self.one(member))

    async def rendered_all(self, members: Iterable[Member]) -> dict[Key, bytes]:
        found = await self._all(list(members))
        return {key: documents.render(state) for key, state in found.items()}

    async def one(self, member: Member) -> dict[str, Any]:
        return (await self._all([member]))[member.key]

    async def _all(self, members: list[Member]) -> dict[Key, dict[str, Any]]:
        running = [member for member in members if self._live(member) is not None]
        samples, disks = await asyncio.gather(self._samples(running), self._disks(running))
        return {
            member.key: self._state(member, samples.get(member.key), disks.get(member.key, {})) for member in members
        }

    def _live(self, member: Member) -> Any:
        return self.parts.roster.live(member.value.project, member.value.name)

    def _state(self, member: Member, sample: Mapping[str, Any] | None, disks: dict[str, Any]) -> dict[str, Any]:
        live = self._live(member) if sample is not None else None
        code, word = status_of(live)
        return {"status": word, "status_code": code, **NOTHING, **(sample if live and sample else {}), "disk": disks}

    async def _samples(self, members: list[Member]) -> dict[Key, dict[str, Any]]:
        names = {member.key: _host_names(member) for member in members}
        return await sample(self.parts.host, [member.key for member in members], names)

    async def _disks(self, members: list[Member]) -> dict[Key, dict[str, Any]]:
        found = await asyncio.gather(*(self._disk(member) for member in members))
        return {member.key: disk for member, disk in zip(members, found, strict=True)}

    async def _disk(self, member: Member) -> dict[str, Any]:
        """LXD's map of disks; empty where the driver cannot tell cheaply, or the storage service is away."""
        try:
            device, config = root_disk(member.expanded.devices)
            pool = self.parts.roster.pool(config.get("pool", ""))
            if pool is None or pool.driver not in QUOTA_DRIVERS:
                return {}
            usage = await self.parts.volumes.usage(member.volume)
        except (ValueError, Fault):
            return {}
        return {device: {"usage": usage[0]}} if usage else {}


def _host_names(member: Member) -> dict[str, str]:
    """The host's end of each nic, by its name inside."""
    found = {}
    for device, config in member.expanded.active.items():
        if config.get("type") == "nic":
            kept = volatile.of_device(member.value.config, device)
            inside = config.get("name") or kept.get("name") or device
            found[inside] = config.get("host_name") or kept.get("host_name", "")
    return found
