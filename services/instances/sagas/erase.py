"""What is of an instance on the host besides its row: taken away for good. Nothing happens for what is gone already."""

from __future__ import annotations

from contextlib import suppress

from chassis.errors import NotFound
from services.instances import hostside
from services.instances.devices.nic import forget_nic
from services.instances.parts import Parts
from services.instances.roster import Member


async def from_host(parts: Parts, member: Member) -> None:
    for device, config in member.expanded.active.items():
        if config.get("type") == "nic":
            owner = hostside.owner_of(member, device)
            await forget_nic(parts, owner.project, owner.instance, owner.type, device, config, owner.volatile)
    with suppress(ValueError, NotFound):  # without a root disk, or when its pool is gone, there is no volume
        await parts.volumes.remove(member.volume)
    await parts.host.forget(member.key)
