"""Stop an instance, cleanly within a time or at once; an ephemeral one is deleted with it.

Arguments: `name`; `force`; `timeout` in seconds; `power`, what volatile.last_state.power says afterwards (RUNNING when the host goes down:
it is to run again when the host is back).
"""

from __future__ import annotations

import asyncio
from typing import Any

from chassis.errors import BadRequest, Internal
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from rows.instance import INSTANCE
from services.instances import hostside
from services.instances.document import status_of
from services.instances.host.spec import Key
from services.instances.parts import Parts
from services.instances.sagas import erase
from services.instances.sagas.subject import known_subject, parts_of, rewrite, subject, tell

PATIENCE = 600  # seconds that a clean stop may take when the client names no time (LXD's own bound)
REFUSAL = "The instance is already stopped"


def arguments(name: str, *, force: bool, timeout: int = -1, power: str = "STOPPED") -> dict[str, Any]:
    return {"name": name, "force": force, "timeout": timeout if timeout >= 0 else PATIENCE, "power": power}


async def refuse_stopped(ctx: Context) -> None:
    member = subject(ctx)
    if parts_of(ctx).roster.live(ctx.project, member.value.name) is None and not member.value.powered:
        raise BadRequest(REFUSAL)


async def end_container(ctx: Context) -> None:
    await take_down(
        parts_of(ctx), Key(ctx.project, ctx.args["name"]), bool(ctx.args["force"]), float(ctx.args["timeout"])
    )


async def take_down(parts: Parts, key: Key, force: bool, timeout: float) -> None:
    """Stop what runs. A clean stop that is under way becomes a forced one when somebody asks for that (`Parts.hurries`)."""
    live = parts.roster.live(key.project, key.name)
    if live is None:
        return
    if live.frozen:
        await parts.host.unfreeze(key)
    if force or await _hurried(parts, key, timeout):
        await parts.host.kill(key)
        return
    live = parts.roster.live(key.project, key.name)
    if live is not None:
        raise Internal(f'Failed shutting down instance, status is "{status_of(live)[1]}": context deadline exceeded')


async def _hurried(parts: Parts, key: Key, timeout: float) -> bool:
    """Wait for a clean stop, at most `timeout` seconds; true when it has to be forced."""
    hurry = parts.hurries[key]
    hurry.clear()
    shutdown = asyncio.ensure_future(parts.host.shutdown(key, timeout))
    hurried = asyncio.ensure_future(hurry.wait())
    try:
        await asyncio.wait((shutdown, hurried), return_when=asyncio.FIRST_COMPLETED)
        if shutdown.done():
            shutdown.result()
        return hurry.is_set()
    finally:
        hurried.cancel()
        shutdown.cancel()
        await asyncio.gather(shutdown, hurried, return_exceptions=True)


async def detach(ctx: Context) -> None:
    parts, member = parts_of(ctx), subject(ctx)
    async with parts.turn(member.key):
        await hostside.detach(parts, member)
        await parts.volumes.unmount(member.volume)


async def erase_ephemeral(ctx: Context) -> bool:
    """Whether it was ephemeral and is gone from the host. At the host's own shutdown ephemeral ones go as well."""
    member = subject(ctx)
    if member.value.ephemeral:
        await erase.from_host(parts_of(ctx), member)
    return member.value.ephemeral


def stopped(ctx: Context, change: Change) -> None:
    member = known_subject(ctx)
    if member is None:
        return
    tell(ctx, change, "instance-stopped" if ctx.args["force"] else "instance-shutdown")
    if ctx.results["ephemeral"]:
        change.delete(INSTANCE, member.row.key, expect=member.row.revision)
        tell(ctx, change, "instance-deleted")
        return
    rewrite(ctx, change, config=hostside.stopped_config(member.value.config, power=ctx.args["power"]), powered=False)


SAGA = Saga(
    "instance.stop",
    (
        Step("refuse", refuse_stopped, light=True, checks=True),
        Step("container", end_container),
        Step("host", detach, light=True),
        Step("ephemeral", erase_ephemeral, light=True),
    ),
    description="Stopping instance",
    finish=stopped,
)
