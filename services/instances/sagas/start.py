"""Start an instance: its volume, its templates, its devices, then the container itself.

Arguments: `name`; `drawn`, names that its devices are given this time (by device); `action`, the event that tells of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chassis import calls
from chassis.errors import BadRequest, Internal
from chassis.saga import Context, Saga, Step
from chassis.store import Change
from services.instances import hostside, identity, templating
from services.instances.devices import nic
from services.instances.roster import Member
from services.instances.sagas.subject import now, parts_of, rewrite, subject, tell


def arguments(member: Member, action: str = "instance-started") -> dict[str, Any]:
    """What a start of this instance is accepted with: every name that it will need is drawn here."""
    drawn = nic.drawn(member.value.config, member.expanded.active)
    return {"name": member.value.name, "drawn": drawn, "action": action}


async def refuse_running(ctx: Context) -> None:
    """LXD's refusals; and whatever an earlier life left on the host is taken away."""
    member = subject(ctx)
    parts = parts_of(ctx)
    live = parts.roster.live(ctx.project, member.value.name)
    if live is not None:
        raise BadRequest("The instance is already running")
    async with parts.turn(member.key):
        if member.value.powered and live is None:
            calls.current().act()
            await hostside.detach(parts, member)


async def mount(ctx: Context) -> str:
    member = subject(ctx)
    try:
        volume = member.volume
    except ValueError as error:
        raise Internal(f"Failed getting root disk: {error}") from None
    return str(await parts_of(ctx).volumes.mount(volume))


async def unmount(ctx: Context) -> None:
    await parts_of(ctx).volumes.unmount(subject(ctx).volume)


async def fill_templates(ctx: Context) -> None:
    await templating.at_start(parts_of(ctx), subject(ctx), Path(ctx.results["volume"]))


async def choose_ids(ctx: Context) -> dict[str, str]:
    """The keys of the id map that it starts with."""
    return identity.at_start(parts_of(ctx), subject(ctx))


async def attach(ctx: Context) -> hostside.Journal:
    return await hostside.attach(parts_of(ctx), subject(ctx), ctx.args["drawn"])


async def detach(ctx: Context) -> None:
    await hostside.detach(parts_of(ctx), subject(ctx), ctx.args["drawn"])


async def run(ctx: Context) -> int:
    """The pid of its init. Running already (an earlier run of this step started it) is as good."""
    spec = hostside.spec_of(subject(ctx), Path(ctx.results["volume"]), ctx.results["devices"], ctx.results["ids"])
    return await parts_of(ctx).host.start(spec)


async def kill(ctx: Context) -> None:
    await parts_of(ctx).host.kill(subject(ctx).key)


def started(ctx: Context, change: Change) -> None:
    config = hostside.started_config(subject(ctx).value.config, ctx.results["devices"], ctx.results["ids"])
    rewrite(ctx, change, config=config, powered=True, last_used_at=now())
    tell(ctx, change, ctx.args["action"])


SAGA = Saga(
    "instance.start",
    (
        Step("refuse", refuse_running, light=True, checks=True),
        Step("volume", mount, unmount, light=True),
        Step("templates", fill_templates, light=True),
        Step("ids", choose_ids, light=True),
        Step("devices", attach, detach),
        Step("container", run, kill),
    ),
    description="Starting instance",
    finish=started,
)
