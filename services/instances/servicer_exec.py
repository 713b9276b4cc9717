"""REST face of commands in an instance (exec) and of its console: operations with websockets, or commands that run by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import structlog

from chassis import documents
from chassis.calls import Call
from chassis.errors import BadRequest, Fault
from chassis.sockets import Sockets
from chassis.store import Change
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances import execution, names
from services.instances.body import ConsoleBody, ExecBody, read
from services.instances.consoles import Screen
from services.instances.execution import Wires
from services.instances.host import exec as host_exec
from services.instances.host.console import Consoles
from services.instances.occurrences import Telling, asked, tell
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.servicer_instances import answer_of, found

CONNECT = 30.0  # seconds that the client has to connect the websockets
COMMAND_NOT_FOUND, NOT_EXECUTABLE = 127, 126
FAILURES = {COMMAND_NOT_FOUND: "Command not found", NOT_EXECUTABLE: "Command not executable"}
log = structlog.get_logger()


class ExecMethods:
    """The methods of Instances about commands and the console."""

    parts: Parts
    sockets: Sockets
    consoles: Consoles
    tasks: set[asyncio.Task[None]]

    async def Exec(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Answer:
        body: ExecBody = read(request.body, ExecBody)
        member = self._running(request)
        if not body.command:
            raise BadRequest("No command to run was given")
        spec = self._spec(member, body)
        return await (
            self._with_websockets(member, body, spec) if body.wait_for_websocket else self._alone(member, body, spec)
        )

    def _running(self, request: Any) -> Member:
        member = found(self.parts, request)
        live = self.parts.roster.live(member.value.project, member.value.name)
        if live is None:
            raise BadRequest("Instance is not running")
        if live.frozen:
            raise BadRequest("Instance is frozen")
        return member

    def _spec(self, member: Member, body: ExecBody) -> host_exec.ExecSpec:
        given = body.environment or {}
        variables = execution.environment(member.expanded.config, given, body.user, body.interactive)
        return host_exec.ExecSpec(
            command=tuple(body.command or ()),
            environment=variables,
            cwd=body.cwd or variables.get("HOME", "/"),
            uid=body.user,
            gid=body.group,
            pty=(body.width, body.height) if body.interactive else None,
        )

    async def _with_websockets(self, member: Member, body: ExecBody, spec: host_exec.ExecSpec) -> rest_pb2.Answer:
        fds = ("0", "control") if body.interactive else ("0", "1", "2", "control")
        metadata = {"command": list(spec.command), "environment": spec.environment, "interactive": body.interactive}
        operations = self.parts.sagas.operations
        accepted = await operations.open_socket(
            description="Executing command",
            project=member.value.project,
            resources=names.resources(member.value.project, member.value.name),
            metadata=metadata,
            fds=fds,
        )
        wires = Wires(frozenset(fds))
        self.sockets.register(accepted.id, accepted.row.secrets, wires.attach)
        self._own(self._converse(accepted.id, member, spec, wires))
        return answer_of(accepted)

    async def _converse(self, operation: str, member: Member, spec: host_exec.ExecSpec, wires: Wires) -> None:
        """From the connected websockets to the end of the operation."""
        try:
            executed = await self._ready(member, spec, wires)
            telling = self._telling(member, spec)
            await executed.begin()
            code = await execution.carry(executed, wires)
            await self._finish(operation, code, change=await telling.rest())
        except TimeoutError:
            await self.parts.sagas.operations.end(operation, err="Timed out waiting for websockets to connect")
        except Fault as fault:
            await self.parts.sagas.operations.end(operation, err=fault.text)
        finally:
            wires.done.set()
            self.sockets.forget(operation)

    async def _ready(self, member: Member, spec: host_exec.ExecSpec, wires: Wires) -> host_exec.Executed:
        """The command is put into the instance while the client connects; it begins when both are done."""
        attaching = asyncio.ensure_future(host_exec.attach(self.parts.host, member.key, spec))
        try:
            async with asyncio.timeout(CONNECT):
                await wires.ready.wait()
            return await attaching
        except BaseException:
            attaching.cancel()
            attaching.add_done_callback(_let_go)
            raise

    async def _alone(self, member: Member, body: ExecBody, spec: host_exec.ExecSpec) -> rest_pb2.Answer:
        operations = self.parts.sagas.operations
        accepted = await operations.open(
            "task",
            description="Executing command",
            project=member.value.project,
            resources=names.resources(member.value.project, member.value.name),
        )
        self._own(self._run_alone(accepted.id, member, spec, body.record_output))
        return answer_of(accepted)

    async def _run_alone(self, operation: str, member: Member, spec: host_exec.ExecSpec, record: bool) -> None:
        metadata: dict[str, Any] = {}
        if record:
            logs = self.parts.host.logs(member.key)
            spec = replace(spec, stdout=logs / f"exec_{operation}.stdout", stderr=logs / f"exec_{operation}.stderr")
            at = f"/1.0/instances/{member.value.name}/logs/exec_{operation}"
            metadata["output"] = {"1": f"{at}.stdout", "2": f"{at}.stderr"}
        else:
            spec = replace(spec, discard=True)
        try:
            executed = await host_exec.execute(self.parts.host, member.key, spec)
            telling = self._telling(member, spec)
            try:
                code = await executed.wait()
            finally:
                executed.close()
            await self._finish(operation, code, metadata, await telling.rest())
        except Fault as fault:
            await self.parts.sagas.operations.end(operation, err=fault.text)

    async def _finish(
        self, operation: str, code: int, metadata: dict[str, Any] | None = None, change: Change | None = None
    ) -> None:
        found = {**(metadata or {}), "return": code}
        await self.parts.sagas.operations.end(operation, err=FAILURES.get(code, ""), metadata=found, change=change)

    def _telling(self, member: Member, spec: host_exec.ExecSpec) -> Telling:
        """The event of a command that has begun."""
        event = asked(self.parts, "instance-exec", member.value, {"command": list(spec.command)})
        telling = Telling(self.parts.store, event)
        self._own(telling.run())
        return telling

    def _own(self, work: Any) -> None:
        """A task for the life of an operation; at the end of the service it is cancelled (see `close`)."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    # Console.

    async def Console(self, request: instance_pb2.ConsoleRequest, call: Call) -> rest_pb2.Answer:
        body: ConsoleBody = read(request.body, ConsoleBody)
        kind = body.type or "console"
        if kind != "console":
            raise BadRequest(
                f'Unknown console type "{kind}"'
                if kind != "vga"
                else "VGA console is only supported by virtual machines"
            )
        member = self._running(request)
        operations = self.parts.sagas.operations
        screen = Screen(self.consoles, member.key, (body.width, body.height))
        accepted = await operations.open_socket(
            description="Showing console",
            project=member.value.project,
            resources=names.resources(member.value.project, member.value.name),
            fds=("0", "control"),
        )
        self.sockets.register(accepted.id, accepted.row.secrets, screen.wires.attach)
        await tell(self.parts, "instance-console", member.value, {"type": kind})
        self._own(self._show(accepted.id, screen))
        return answer_of(accepted)

    async def _show(self, operation: str, screen: Screen) -> None:
        error = ""
        try:
            await screen.show(CONNECT)
            screen.wires.done.set()
            await screen.wires.left()
        except TimeoutError:
            error = "Timed out waiting for websockets to connect"
        except Fault as fault:
            error = fault.text
        finally:
            screen.wires.done.set()
            self.sockets.forget(operation)
            await self.parts.sagas.operations.end(operation, err=error)

    async def GetConsoleLog(self, request: instance_pb2.ConsoleRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        member = found(self.parts, request)
        data = await asyncio.to_thread(self.consoles.read_log, member.key)
        await tell(self.parts, "instance-console-retrieved", member.value)
        headers = {"content-type": "application/octet-stream"}
        yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers=headers), data=data)

    async def ClearConsoleLog(self, request: instance_pb2.ConsoleRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        call.act()
        await asyncio.to_thread(self.consoles.clear_log, member.key)
        await tell(self.parts, "instance-console-reset", member.value)
        return documents.empty()


def _let_go(attaching: asyncio.Task[host_exec.Executed]) -> None:
    if not attaching.cancelled() and attaching.exception() is None:
        attaching.result().close()
