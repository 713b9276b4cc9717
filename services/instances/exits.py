"""What becomes of an instance whose container ended by itself: its host side is taken down and its row says so, or it is started again.

While an operation holds the instance, that operation knows better; afterwards this looks again. It is enough to compare what the row says
(powered) with what the kernel says, so an exit that was missed is found at the next look, and looking twice changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import structlog

from chassis.errors import Conflict, Fault
from chassis.store import Change
from rows.instance import INSTANCE
from services.instances import hostside, names
from services.instances.host.spec import Exit, Key
from services.instances.occurrences import of_instance
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.sagas import erase, start
from services.instances.sagas.subject import locks

PATIENCE = 3600.0  # seconds that an operation is waited for before looking again
AGAIN = 1.0
log = structlog.get_logger()


class Exits:
    """`note` is what the host layer calls when a container ends; `keep` does the work."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.tasks: dict[Key, asyncio.Task[None]] = {}
        self.targets: dict[Key, str] = {}

    def note(self, key: Key, exit_: Exit) -> None:
        """The container ended. Called on the loop, returns at once."""
        self.targets[key] = exit_.target
        self.look(key)

    def look(self, key: Key) -> asyncio.Task[None]:
        """Have an instance looked at; one look an instance at a time."""
        running = self.tasks.get(key)
        if running is None or running.done():
            running = asyncio.create_task(self._settle(key), name=f"exit of {key.folder_name}")
            self.tasks[key] = running
            running.add_done_callback(lambda task: self._forget(key, task))
        return running

    def _forget(self, key: Key, task: asyncio.Task[None]) -> None:
        if self.tasks.get(key) is task:
            del self.tasks[key]

    async def close(self) -> None:
        for task in list(self.tasks.values()):
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def _settle(self, key: Key) -> None:
        while True:
            try:
                await self._free(key)
                if await self._settled(key):
                    return
            except Conflict:
                await self.parts.store.refresh()
            except Fault as fault:
                log.warning("an instance that ended is not taken down yet", instance=key.folder_name, error=fault.text)
                await asyncio.sleep(AGAIN)

    async def _free(self, key: Key) -> None:
        """Until no operation holds the instance."""
        operations = self.parts.sagas.operations
        while (holder := operations.holder(("instance", key.project, key.name))) is not None:
            await operations.wait(holder.id, PATIENCE)

    async def _settled(self, key: Key) -> bool:
        member = self.parts.roster.get(key.project, key.name)
        if member is None or not member.value.powered or self.parts.roster.live(key.project, key.name) is not None:
            return True
        async with self.parts.turn(key):
            if self.parts.sagas.operations.holder(("instance", key.project, key.name)) is not None:
                return False
            reboot = self.targets.pop(key, "stop") == "reboot"
            await hostside.detach(self.parts, member)
            if not reboot:
                await self.parts.volumes.unmount(member.volume)
        if reboot:
            await self._start_again(member)
        else:
            await self._record_stop(member)
        return True

    async def _record_stop(self, member: Member) -> None:
        value = member.value
        change = Change().event(self._event("instance-shutdown", value.project, value.name))
        if value.ephemeral:
            await erase.from_host(self.parts, member)
            change.delete(INSTANCE, member.row.key, expect=member.row.revision)
            change.event(self._event("instance-deleted", value.project, value.name))
        else:
            row = msgspec.structs.replace(value, powered=False, config=hostside.stopped_config(value.config))
            change.put(INSTANCE, row, expect=member.row.revision)
        await self.parts.store.commit(change)

    async def _start_again(self, member: Member) -> None:
        """As LXD tells of a reboot from within: it went down, then it was restarted."""
        value = member.value
        row = msgspec.structs.replace(value, powered=False)
        change = Change().put(INSTANCE, row, expect=member.row.revision)
        change.event(self._event("instance-shutdown", value.project, value.name))
        await self.parts.sagas.accept(
            start.SAGA,
            start.arguments(member, "instance-restarted"),
            project=value.project,
            resources={"instances": [names.instance_url(value.project, value.name)]},
            locks=locks(value.project, value.name),
            description="Restarting instance",
            change=change,
        )

    def _event(self, action: str, project: str, name: str) -> Any:
        return of_instance(action, project, name, location=self.parts.member)
