"""An instance's side on this host while it runs: its volume mounted, its devices attached, what liblxc is told.

The pieces are put up by the steps of a start and taken down by those of a stop; each may run twice and find its work done.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chassis.errors import Fault, Internal
from chassis.keys import Config
from services.instances.devices import type_of
from services.instances.devices.device import Attached, Owner
from services.instances.expansion import Device
from services.instances.host.idmap import IdMap
from services.instances.host.spec import MountSpec, NicSpec, Spec
from services.instances.keys import security, volatile
from services.instances.parts import Parts
from services.instances.roster import Member

Journal = dict[str, Any]  # what devices gave, as the journal of a saga holds it: device name -> Attached as JSON
NO_IDMAP = "[]"
DROPPED_AT_STOP = ("host_name",)


def owner_of(member: Member, device: str, drawn: Mapping[str, str] | None = None) -> Owner:
    """The owner of a device, with what is kept of it and what was drawn for this start."""
    value = member.value
    return Owner(value.project, value.name, value.type, {**volatile.of_device(value.config, device), **(drawn or {})})


async def attach(parts: Parts, member: Member, drawn: Mapping[str, Mapping[str, str]] | None = None) -> Journal:
    """Attach every device. `drawn` are names that were drawn for this start, by device; they win over what was kept."""
    found: Journal = {}
    for device, config in member.expanded.active.items():
        owner = owner_of(member, device, (drawn or {}).get(device, {}))
        try:
            attached = await type_of(config).attach(parts, device, config, owner)
        except ValueError as error:
            raise Internal(f'Failed to start device "{device}": {error}') from None
        except Fault as fault:
            raise type(fault)(f'Failed to start device "{device}": {fault.text}') from None
        found[device] = msgspec.to_builtins(attached)
    return found


async def detach(parts: Parts, member: Member, drawn: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Detach every device, last attached first."""
    for device, config in reversed(member.expanded.active.items()):
        await detach_one(parts, member, device, config, (drawn or {}).get(device, {}))


async def detach_one(parts: Parts, member: Member, device: str, config: Device, drawn: Mapping[str, str]) -> None:
    await type_of(config).detach(parts, device, config, owner_of(member, device, drawn))


def attached_of(journal: Journal) -> dict[str, Attached]:
    return {device: msgspec.convert(found, Attached) for device, found in journal.items()}


def spec_of(member: Member, volume: Path, journal: Journal, identity: Mapping[str, str]) -> Spec:
    """What the host layer starts. `identity` are the keys of its id map."""
    attached = attached_of(journal).values()
    nics: tuple[NicSpec, ...] = tuple(found.nic for found in attached if found.nic is not None)
    mounts: tuple[MountSpec, ...] = tuple(found.mount for found in attached if found.mount is not None)
    return Spec(
        key=member.key,
        uid=member.value.uid,
        type=member.value.type,
        volume=volume,
        config=member.expanded.config,
        architecture=member.value.architecture,
        idmap=_idmap(identity.get(volatile.IDMAP_NEXT.name)),
        nics=nics,
        mounts=mounts,
    )


def is_privileged(member: Member) -> bool:
    return Config(member.expanded.config)[security.PRIVILEGED]


def _idmap(text: str | None) -> IdMap | None:
    """The map that a volatile key holds; None for none, which means the host's own ids."""
    return IdMap.from_json(text) if text and text != NO_IDMAP else None


def running_idmap(member: Member) -> IdMap | None:
    """The id map that it runs with."""
    return _idmap(member.value.config.get(volatile.IDMAP_CURRENT.name))


def started_config(config: dict[str, str], journal: Journal, identity: Mapping[str, str]) -> dict[str, str]:
    """The local configuration of an instance that has been started with these devices and this id map."""
    for device, attached in attached_of(journal).items():
        config = volatile.with_device(config, device, attached.volatile)
    changed = {
        **config,
        **identity,
        volatile.IDMAP_CURRENT.name: identity.get(volatile.IDMAP_NEXT.name, NO_IDMAP),
        volatile.LAST_POWER.name: "RUNNING",
    }
    changed.pop(volatile.APPLY_TEMPLATE.name, None)
    return changed


def stopped_config(config: dict[str, str], *, power: str = "STOPPED") -> dict[str, str]:
    """The local configuration of an instance that has stopped. `power` RUNNING: it is to run again when the host is back."""
    changed = {
        name: text
        for name, text in config.items()
        if not (name.startswith(volatile.PREFIX) and name.rpartition(".")[2] in DROPPED_AT_STOP)
    }
    changed[volatile.LAST_POWER.name] = power
    return changed
