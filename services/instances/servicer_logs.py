"""REST face of an instance's log files: listed, read and deleted by name; only names that LXD knows."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from chassis import beneath, documents
from chassis.calls import Call
from chassis.errors import BadRequest, NotFound
from chassis.references import in_project
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances.occurrences import tell
from services.instances.parts import Parts
from services.instances.servicer_instances import found

NAMES = re.compile(r"(lxc|qemu)\.(log|conf|early\.log)|(migration_|snapshot_|exec_)[^/]+")
KEPT = ("lxc.log", "lxc.conf")
PIECE = 256 * 1024


class LogMethods:
    """The methods of Instances about logs."""

    parts: Parts

    async def ListLogs(self, request: instance_pb2.LogRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        names = await asyncio.to_thread(_list, self.parts.host.logs(member.key))
        base = f"/1.0/{request.path_type or 'instances'}/{member.value.name}/logs"
        return documents.document([in_project(f"{base}/{name}", member.value.project) for name in names])

    async def GetLog(self, request: instance_pb2.LogRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        member = found(self.parts, request)
        name = _valid(request.file)
        descriptor = _open(self.parts.host.logs(member.key), name)
        with os.fdopen(descriptor, "rb") as file:
            await tell(self.parts, "instance-log-retrieved", member.value, below=f"/logs/{name}")
            headers = {"content-type": "application/octet-stream", "content-disposition": f"inline;filename={name}"}
            head: rest_pb2.Document | None = rest_pb2.Document(raw=True, headers=headers)
            while (piece := await asyncio.to_thread(file.read, PIECE)) or head:
                yield rest_pb2.Chunk(head=head, data=piece) if head else rest_pb2.Chunk(data=piece)
                head = None

    async def DeleteLog(self, request: instance_pb2.LogRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        name = _valid(request.file)
        if name in KEPT:
            raise BadRequest("lxc.log and lxc.conf may not be deleted")
        file = self.parts.host.logs(member.key) / name
        if not file.is_file():
            raise NotFound("Not Found")
        call.act()
        file.unlink(missing_ok=True)
        await tell(self.parts, "instance-log-deleted", member.value, below=f"/logs/{name}")
        return documents.empty()


def _valid(name: str) -> str:
    if not NAMES.fullmatch(name):
        raise BadRequest(f"log file name {name} not valid")
    return name


def _list(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and NAMES.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def _open(folder: Path, name: str) -> int:
    try:
        with beneath.tree(folder) as tree:
            return beneath.open_beneath(tree, name)
    except OSError:
        raise NotFound("Not Found") from None
