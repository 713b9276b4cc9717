"""How an instance changes: the new row from what the client gave, and what that means for one that runs."""

from __future__ import annotations

from typing import Any

import msgspec

from chassis.errors import BadRequest
from rows.instance import Instance
from services.instances import allowed, identity, rules
from services.instances.body import InstanceBody, given, set_keys
from services.instances.devices import nic
from services.instances.document import editable
from services.instances.expansion import Expanded, changed_keys, compare, expand
from services.instances.host.interception import settings
from services.instances.keys import volatile
from services.instances.parts import Parts
from services.instances.roster import Member

ON_HOST = ("limits.", f"{settings.PREFIX}.")  # keys whose change reaches a running instance on the host


def replaced(instance: Instance, body: InstanceBody) -> Instance:
    """PUT: the whole editable part; what the client left out is empty."""
    return msgspec.structs.replace(
        instance,
        architecture=given(body.architecture, "") or instance.architecture,
        description=given(body.description, ""),
        ephemeral=given(body.ephemeral, False),
        profiles=tuple(given(body.profiles, ())),
        config=set_keys(given(body.config, {})),
        devices=given(body.devices, {}),
    )


def patched(instance: Instance, body: InstanceBody) -> Instance:
    """PATCH: what the client gave; keys and devices that it did not name stay as they are."""
    profiles = given(body.profiles, None)
    return msgspec.structs.replace(
        instance,
        architecture=given(body.architecture, "") or instance.architecture,
        description=given(body.description, instance.description),
        ephemeral=given(body.ephemeral, instance.ephemeral),
        profiles=instance.profiles if profiles is None else tuple(profiles),
        config=set_keys({**instance.config, **given(body.config, {})}),
        devices={**instance.devices, **given(body.devices, {})},
    )


async def settle(parts: Parts, old: Member, new: Instance) -> tuple[Instance, Expanded]:
    """Check the new row and complete it (volatile keys, id map). Raises faults in LXD's words."""
    try:
        rules.check_config(new.config, new.devices)
    except BadRequest as fault:
        raise rules.worded("Invalid config: ", fault) from None
    rules.check_devices(new.devices)
    missing = [key for key in volatile.IDMAPS if key in old.value.config and key not in new.config]
    if missing:
        raise rules.worded("", BadRequest("Volatile idmap keys can't be deleted by the user"))
    allowed.check_volatile(parts, new.project, new.name, new.config, old.value.config)
    new = msgspec.structs.replace(new, config=identity.kept(old.value.config, new.config))
    profiles = parts.roster.profiles_of(new.project, new.profiles)
    expanded = expand(profiles, new.config, new.devices)
    try:
        rules.check_merged(expanded.config)
    except BadRequest as fault:
        raise rules.worded("Invalid config: ", fault) from None
    allowed.check(parts, new.project, allowed.held(new, expanded), allowed.UPDATE)
    new, expanded = _completed(parts, old, new, expanded)
    await _check_devices(parts, old, new, expanded)
    return new, expand(profiles, new.config, new.devices)


def _completed(parts: Parts, old: Member, new: Instance, expanded: Expanded) -> tuple[Instance, Expanded]:
    config = new.config
    changes = compare(old.expanded.devices, expanded.devices)
    for device in changes.removed.keys() - changes.added.keys():
        config = volatile.without_device(config, device)
    config = nic.fill(config, expanded.active)
    if any(expanded.config.get(key) != old.expanded.config.get(key) for key in identity.INPUTS):
        config = {**config, **identity.next_idmap(parts, new.project, new.name, expanded.config)}
    return msgspec.structs.replace(new, config=config), expanded


async def _check_devices(parts: Parts, old: Member, new: Instance, expanded: Expanded) -> None:
    changes = compare(old.expanded.devices, expanded.devices)
    _refuse_new_pool(old, expanded)
    if not changes:
        return
    changed = {**changes.added, **{device: pair[1] for device, pair in changes.updated.items()}}
    only = Expanded(expanded.config, {**changed, **rules.root_of(expanded.devices)})
    await rules.validate_expanded(parts, new.project, new.name, new.type, new.config, only)


def _refuse_new_pool(old: Member, expanded: Expanded) -> None:
    before, after = rules.root_of(old.expanded.devices), rules.root_of(expanded.devices)
    if not before or not after:
        return
    was, is_ = next(iter(before.values())), next(iter(after.values()))
    if was.get("pool") != is_.get("pool"):
        raise rules.worded("", BadRequest(f'Cannot update root disk device pool name to "{is_.get("pool", "")}"'))


def needs_host(parts: Parts, old: Member, new: Expanded) -> bool:
    """Whether the change is more than a row: something on the host must change with it."""
    changes = compare(old.expanded.devices, new.devices)
    if parts.roster.live(old.value.project, old.value.name) is None:
        return any(rules.root_of({device: pair[1]}) for device, pair in changes.updated.items())
    return bool(changes) or _reaches_host(old.expanded, new)


def _reaches_host(old: Expanded, new: Expanded) -> bool:
    return any(key.startswith(ON_HOST) for key in changed_keys(old.config, new.config))


def plan(old: Member, new: Instance | None, expanded: Expanded) -> dict[str, Any]:
    """What an update has to do: the editable part of the new row (None when only a profile has changed), and what its expansion
    was and will be."""
    return {
        "row": None if new is None else editable(new),
        "before": {"config": old.expanded.config, "devices": old.expanded.devices},
        "after": {"config": expanded.config, "devices": expanded.devices},
        "drawn": nic.drawn(old.value.config if new is None else new.config, expanded.active),
    }


def row_of(instance: Instance, fields: dict[str, Any]) -> Instance:
    """The instance with the editable part that `plan` kept."""
    return msgspec.structs.replace(instance, **{**fields, "profiles": tuple(fields["profiles"])})
