"""When an image's templates are filled in, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.instances import hostside
from services.instances.host import templates
from services.instances.keys import volatile
from services.instances.parts import Parts
from services.instances.roster import Member


async def at_start(parts: Parts, member: Member, volume: Path) -> None:
    """First what was put off until now (create, copy, rename), then those of every start."""
    pending = member.value.config.get(volatile.APPLY_TEMPLATE.name)
    for trigger in (pending, "start"):
        if trigger:
            await templates.apply(volume, trigger, context(member))


def context(member: Member) -> dict[str, Any]:
    """What templates can name: LXD's variables."""
    value = member.value
    return {
        "container": {
            "name": value.name,
            "type": value.type,
            "architecture": value.architecture,
            "privileged": "true" if hostside.is_privileged(member) else "false",
            "ephemeral": "true" if value.ephemeral else "false",
        },
        "config": member.expanded.config,
        "devices": member.expanded.devices,
    }
