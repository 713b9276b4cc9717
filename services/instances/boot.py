"""The host comes up and goes down: which instances start by themselves and in which order, and how all are stopped.

At the start of the service the running ones are taken over as they are. Whether the machine (or the whole server) has been down since is
told by a mark: the kernel's boot id and the supervisor's start, written at each start and removed by an orderly shutdown. After such an
absence every instance with boot.autostart is started. One that ended while only this service was away runs again as well, as with LXD,
unless boot.autostart forbids it: then it becomes Stopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import msgspec
import structlog

from chassis.calls import Call
from chassis.errors import Conflict, Fault
from chassis.keys import Config
from chassis.operations import SUCCESS
from chassis.store import Change
from chassis.troubles import Tell, untold
from gen.nubibus.instances.v1 import power_pb2
from rows.instance import INSTANCE
from services.instances import hostside, names
from services.instances.exits import Exits
from services.instances.keys import boot as keys
from services.instances.keys import volatile
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.sagas import start, stop
from services.instances.sagas.subject import locks

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MARK = "instances/.boot"
RUN = "NUBIBUS_RUN"
TRIES, PAUSE = 3, 5.0  # of an automatic start, as LXD
log = structlog.get_logger()


class Boot:
    """`converge` before the service is ready; `keep` starts what is to start, beside serving."""

    service: ClassVar[str] = "nubibus.instances.v1.Power"

    def __init__(self, parts: Parts, exits: Exits) -> None:
        self.parts = parts
        self.exits = exits
        self.mark = parts.directory / MARK
        self.to_start: list[Member] = []
        self.tell: Tell = untold
        self.going_down = False

    async def converge(self) -> None:
        """Compare the rows with the kernel. Fast: nothing is started or taken down here, only decided."""
        await self._end_orphans()
        fresh = self._is_fresh()
        for member in list(self.parts.roster.select()):
            if self._elsewhere(member) or self.parts.roster.live(member.value.project, member.value.name) is not None:
                continue
            if (fresh or member.value.powered) and not self._busy(member) and starts_by_itself(member):
                self.to_start.append(member)
            elif member.value.powered:
                self.exits.look(member.key)  # after the operation that is resumed, if there is one
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        self.mark.write_text(_this_time())

    async def _end_orphans(self) -> None:
        """Commands that ran without a websocket: their processes are no longer ours to wait for."""
        operations = self.parts.sagas.operations
        for row in operations.rows.select():
            found = row.value
            if operations.mine(found) and not found.final and not found.saga and found.kind == "task":
                await operations.end(found.id, err="The service restarted while the command was running")

    def _is_fresh(self) -> bool:
        try:
            return self.mark.read_text() != _this_time()
        except OSError:
            return True

    def _elsewhere(self, member: Member) -> bool:
        return member.value.member != self.parts.member

    def _busy(self, member: Member) -> bool:
        return self.parts.sagas.operations.holder(locks(member.value.project, member.value.name)[0]) is not None

    async def keep(self) -> None:
        """Start what is to start, highest boot.autostart.priority first, then by name, each followed by its delay."""
        waiting, self.to_start = sorted(self.to_start, key=_start_order), []
        for member in waiting:
            if self.going_down:
                return
            await self._start(member)
            await asyncio.sleep(Config(member.expanded.config)[keys.AUTOSTART_DELAY])

    async def _start(self, member: Member) -> None:
        value = member.value
        url = names.instance_url(value.project, value.name)
        problem = ""
        for attempt in range(TRIES):
            problem = await self._try(value.project, value.name)
            if not problem:
                await self.tell(url, value.project, "")
                return
            log.warning(
                "an automatic start failed",
                instance=value.name,
                project=value.project,
                attempt=attempt + 1,
                error=problem,
            )
            await asyncio.sleep(PAUSE)
        await self.tell(url, value.project, problem)
        await self._record_stopped(member)

    async def _try(self, project: str, name: str) -> str:
        """What went wrong; nothing when it runs, or is no longer wanted."""
        parts = self.parts
        member = parts.roster.get(project, name)
        if member is None or parts.roster.live(project, name) is not None:
            return ""
        try:
            accepted = await parts.sagas.accept(
                start.SAGA,
                start.arguments(member),
                project=project,
                resources={"instances": [names.instance_url(project, name)]},
                locks=locks(project, name),
            )
            ended = await parts.sagas.operations.wait(accepted.id)
        except Fault as fault:
            return fault.text
        return "" if ended.status_code == SUCCESS else ended.err

    async def _record_stopped(self, member: Member) -> None:
        """It was to run and could not be started: it is stopped, and its row must not say otherwise."""
        known = self.parts.roster.get(member.value.project, member.value.name)
        if known is None or not known.value.powered:
            return
        row = msgspec.structs.replace(
            known.value, powered=False, config=hostside.stopped_config(known.value.config, power="RUNNING")
        )
        try:
            await self.parts.store.commit(Change().put(INSTANCE, row, expect=known.row.revision))
        except Conflict:
            return

    # The other way.

    async def Shutdown(self, request: power_pb2.ShutdownRequest, call: Call) -> power_pb2.ShutdownAnswer:
        """Stop every instance of this member: highest boot.stop.priority first, those of one priority together."""
        self.going_down = True
        self.mark.unlink(missing_ok=True)
        running = [
            member
            for member in self.parts.roster.select()
            if not self._elsewhere(member)
            and self.parts.roster.live(member.value.project, member.value.name) is not None
        ]
        answer = power_pb2.ShutdownAnswer()
        for _priority, group in groupby(sorted(running, key=_stop_order), key=_stop_order):
            await self._stop_group(list(group), request.timeout, answer)
        return answer

    async def _stop_group(self, members: Sequence[Member], most: int, answer: power_pb2.ShutdownAnswer) -> None:
        turn = asyncio.Semaphore(max(2, os.cpu_count() or 1))

        async def one(member: Member) -> bool:
            async with turn:
                return await self._stop(member, most)

        for member, stopped in zip(members, await asyncio.gather(*(one(member) for member in members)), strict=True):
            url = names.instance_url(member.value.project, member.value.name)
            (answer.stopped if stopped else answer.failed).append(url)

    async def _stop(self, member: Member, most: int) -> bool:
        """Cleanly within its boot.host_shutdown_timeout, then by force. It runs again when the host is back."""
        timeout = Config(member.expanded.config)[keys.SHUTDOWN_TIMEOUT]
        timeout = min(timeout, most) if most else timeout
        problem = await self._end(member, force=False, timeout=timeout)
        if problem:
            log.info("a clean stop did not succeed", instance=member.value.name, error=problem)
            problem = await self._end(member, force=True, timeout=timeout)
        return not problem

    async def _end(self, member: Member, *, force: bool, timeout: int) -> str:
        value, parts = member.value, self.parts
        operations = parts.sagas.operations
        held = operations.holder(locks(value.project, value.name)[0])
        if held is not None:
            await operations.wait(held.id, timeout + 1.0)
        if parts.roster.live(value.project, value.name) is None:
            return ""
        try:
            accepted = await parts.sagas.accept(
                stop.SAGA,
                stop.arguments(value.name, force=force, timeout=timeout, power="RUNNING"),
                project=value.project,
                resources={"instances": [names.instance_url(value.project, value.name)]},
                locks=locks(value.project, value.name),
            )
            ended = await operations.wait(accepted.id)
        except Fault as fault:
            return fault.text
        return "" if ended.status_code == SUCCESS else ended.err


def _this_time() -> str:
    """Names this uptime of the machine and this start of the whole server (the supervisor tells it to all its parts)."""
    return f"{BOOT_ID.read_text().strip()} {os.environ.get(RUN, '')}\n"


def starts_by_itself(member: Member) -> bool:
    """boot.autostart decides; without it, whether it ran when the host went down."""
    config = Config(member.expanded.config)
    if keys.AUTOSTART in config:
        return config[keys.AUTOSTART]
    return member.value.config.get(volatile.LAST_POWER.name) == "RUNNING"


def _start_order(member: Member) -> tuple[int, str, str]:
    return (-Config(member.expanded.config)[keys.AUTOSTART_PRIORITY], member.value.project, member.value.name)


def _stop_order(member: Member) -> int:
    return -Config(member.expanded.config)[keys.STOP_PRIORITY]
