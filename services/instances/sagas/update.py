"""Change an instance whose host side must change with its row: devices plugged and unplugged, limits set while it runs.

Arguments: `name`; `plan`, what `change.plan` made of the request; or `body`, a PUT's body that is still to be checked (LXD tells of what
is wrong with it in the operation). When a step fails, the ones before it are taken back and the row stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chassis.errors import Fault, Internal
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE
from services.instances import allowed
from services.instances.body import InstanceBody
from services.instances.change import plan, replaced, row_of, settle
from services.instances.devices import type_of
from services.instances.devices.device import Owner
from services.instances.devices.nic import forget_nic
from services.instances.expansion import Device, DeviceChanges, Devices, Expanded, compare
from services.instances.keys import volatile
from services.instances.sagas.subject import known_subject, parts_of, subject, tell

Kept = dict[str, dict[str, str]]  # what is to be kept of each device: volatile.<device>.*


async def make_plan(ctx: Context) -> dict[str, Any]:
    """What is to become what. It is kept in the journal, because names are drawn here."""
    if ctx.args.get("plan"):
        found: dict[str, Any] = ctx.args["plan"]
        return found
    parts, member = parts_of(ctx), subject(ctx)
    body = msgspec.convert(ctx.args["body"], InstanceBody)
    new, expanded = await settle(parts, member, replaced(member.value, body))
    return plan(member, new, expanded)


def _plan(ctx: Context) -> dict[str, Any]:
    found: dict[str, Any] = ctx.results["plan"]
    return found


def _expanded(found: Mapping[str, Any]) -> Expanded:
    return Expanded(found["config"], found["devices"])


def _changes(ctx: Context) -> DeviceChanges:
    return compare(_plan(ctx)["before"]["devices"], _plan(ctx)["after"]["devices"])


def _runs(ctx: Context) -> bool:
    return parts_of(ctx).roster.live(ctx.project, ctx.args["name"]) is not None


def _owner(ctx: Context, device: str, drawn: bool) -> Owner:
    value = subject(ctx).value
    kept = volatile.of_device(value.config, device)
    if drawn:
        kept = {**kept, **_plan(ctx)["drawn"].get(device, {})}
    return Owner(value.project, value.name, value.type, kept)


async def _plug(ctx: Context, devices: Devices, drawn: bool) -> Kept:
    kept: Kept = {}
    for device, config in devices.items():
        attached = await _worded(
            "start", device, type_of(config).plug(parts_of(ctx), device, config, _owner(ctx, device, drawn))
        )
        kept[device] = attached.volatile
    return kept


async def _unplug(ctx: Context, devices: Devices, drawn: bool) -> None:
    for device, config in reversed(devices.items()):
        await _worded("stop", device, type_of(config).unplug(parts_of(ctx), device, config, _owner(ctx, device, drawn)))


async def _worded(verb: str, device: str, work: Any) -> Any:
    try:
        return await work
    except ValueError as error:
        raise Internal(f'Failed to {verb} device "{device}": {error}') from None
    except Fault as fault:
        raise type(fault)(f'Failed to {verb} device "{device}": {fault.text}') from None


async def remove_devices(ctx: Context) -> None:
    if _runs(ctx):
        await _unplug(ctx, _changes(ctx).removed, drawn=False)


async def restore_devices(ctx: Context) -> None:
    if _runs(ctx):
        await _plug(ctx, _changes(ctx).removed, drawn=False)


async def add_devices(ctx: Context) -> Kept:
    return await _plug(ctx, _changes(ctx).added, drawn=True) if _runs(ctx) else {}


async def take_devices(ctx: Context) -> None:
    if not _runs(ctx):
        return
    added = _changes(ctx).added
    await _unplug(ctx, added, drawn=True)
    for device, config in added.items():
        if config.get("type") == "nic":  # what DHCP was told of it goes too: no row will ever say that it is gone
            owner = _owner(ctx, device, drawn=True)
            await forget_nic(parts_of(ctx), owner.project, owner.instance, owner.type, device, config, owner.volatile)


async def alter_devices(ctx: Context) -> Kept:
    kept: Kept = {}
    for device, (old, new) in _changes(ctx).updated.items():
        kept[device] = await _alter(ctx, device, old, new)
    return kept


async def alter_devices_back(ctx: Context) -> None:
    for device, (old, new) in _changes(ctx).updated.items():
        await _alter(ctx, device, new, old)


async def _alter(ctx: Context, device: str, old: Device, new: Device) -> dict[str, str]:
    owner = _owner(ctx, device, drawn=False)
    kept: dict[str, str] = await _worded(
        "update", device, type_of(new).change(parts_of(ctx), device, old, new, owner, _runs(ctx))
    )
    return kept


async def apply_limits(ctx: Context) -> None:
    if _runs(ctx):
        await parts_of(ctx).host.apply_limits(
            subject(ctx).key, _expanded(_plan(ctx)["before"]).config, _expanded(_plan(ctx)["after"]).config
        )


async def apply_limits_back(ctx: Context) -> None:
    if _runs(ctx):
        await parts_of(ctx).host.apply_limits(
            subject(ctx).key, _expanded(_plan(ctx)["after"]).config, _expanded(_plan(ctx)["before"]).config
        )


def updated(ctx: Context, change: Change) -> None:
    member = known_subject(ctx)
    if member is None:
        return
    fields = _plan(ctx)["row"]
    row = row_of(member.value, fields) if fields is not None else member.value
    config = row.config
    changes = _changes(ctx)
    for device in changes.removed.keys() - changes.added.keys():
        config = volatile.without_device(config, device)
    for device, kept in {**ctx.results["add"], **ctx.results["alter"]}.items():
        config = volatile.with_device(config, device, kept)
    if config != member.value.config or row is not member.value:
        change.put(INSTANCE, msgspec.structs.replace(row, config=config), expect=member.row.revision)
    if fields is not None:
        after = allowed.held(row, _expanded(_plan(ctx)["after"]))
        allowed.take(parts_of(ctx), change, ctx.project, after, allowed.UPDATE)
    tell(ctx, change, "instance-updated")


SAGA = Saga(
    "instance.update",
    (
        Step("plan", make_plan, checks=True),
        Step("remove", remove_devices, restore_devices, light=True),
        Step("add", add_devices, take_devices, light=True),
        Step("alter", alter_devices, alter_devices_back, light=True),
        Step("limits", apply_limits, apply_limits_back, light=True),
    ),
    description="Updating instance",
    finish=updated,
)
