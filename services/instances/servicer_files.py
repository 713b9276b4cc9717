"""REST face of the files in an instance, running or stopped. Paths are opened as a process inside would see them (chassis.beneath).

The metadata of a file travels in headers, as LXD has it: x-lxd-type, -uid, -gid, -mode, -write, -modified.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from chassis import documents
from chassis.calls import Call
from chassis.errors import BadRequest
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances import hostside
from services.instances.host.files import FileInfo, Tree
from services.instances.occurrences import tell
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.servicer_instances import found

TYPES = ("file", "directory", "symlink")
WRITES = ("overwrite", "append")


class FileMethods:
    """The methods of Instances about files."""

    parts: Parts

    async def GetFile(self, request: instance_pb2.FileRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        path = _path(request)
        member = found(self.parts, request)
        async with await self._tree(member) as tree:
            info = await tree.stat(path)
            head = rest_pb2.Document(raw=info.type != "directory", headers=_headers(info, path))
            await tell(self.parts, "instance-file-retrieved", member.value, {"path": path})
            async for chunk in _shown(tree, path, info, head):
                yield chunk

    async def PostFile(self, request: AsyncIterator[instance_pb2.FileFrame], call: Call) -> rest_pb2.Document:
        frames = aiter(request)
        first = await anext(frames, None)
        if first is None:
            raise BadRequest("EOF")
        head = first.request
        path = _path(head)
        member = found(self.parts, head)
        given = _given(head.headers)
        if given["write"] == "append" and call.once is not None:
            raise BadRequest(
                "Appending to a file cannot be kept under an Idempotency-Key: a crash could make it happen twice"
            )
        async with await self._tree(member) as tree:
            call.act()
            await _put(tree, path, given, frames)
        await tell(self.parts, "instance-file-pushed", member.value, {"path": path})
        return documents.empty()

    async def DeleteFile(self, request: instance_pb2.FileRequest, call: Call) -> rest_pb2.Document:
        path = _path(request)
        member = found(self.parts, request)
        async with await self._tree(member) as tree:
            if call.validate_only:
                await tree.stat(path)
            call.act()
            await tree.delete(path)
        await tell(self.parts, "instance-file-deleted", member.value, {"path": path})
        return documents.empty()

    async def _tree(self, member: Member) -> Tree:
        """The files as they are now: those of the running instance, or of its mounted volume."""
        volume = await self.parts.volumes.mount(member.volume)
        return Tree.of(self.parts.host, member.key, volume, hostside.running_idmap(member))


def _path(request: instance_pb2.FileRequest) -> str:
    if not request.path:
        raise BadRequest("Missing path argument")
    if "\0" in request.path:
        raise BadRequest(f"Invalid path {request.path!r}: holds a NUL byte")
    return request.path if request.path.startswith("/") else f"/{request.path}"


def _headers(info: FileInfo, path: str) -> dict[str, str]:
    """LXD's headers of a file."""
    modified = datetime.fromtimestamp(info.modified, UTC)
    headers = {
        "x-lxd-uid": str(info.uid),
        "x-lxd-gid": str(info.gid),
        "x-lxd-mode": f"{info.mode:04o}",
        "x-lxd-modified": modified.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "x-lxd-type": info.type,
    }
    if info.type != "directory":
        name = path.rstrip("/").rpartition("/")[2]
        headers["content-type"] = "application/octet-stream"
        headers["content-disposition"] = f"inline;filename={quote(name)}"
        headers["last-modified"] = format_datetime(modified.replace(microsecond=0), usegmt=True)
    return headers


async def _put(tree: Tree, path: str, given: Mapping[str, Any], frames: AsyncIterator[instance_pb2.FileFrame]) -> None:
    """Make what the client asked for."""
    owner = {"uid": given["uid"], "gid": given["gid"]}
    if given["type"] == "directory":
        await tree.mkdir(path, **owner, mode=given["mode"])
    elif given["type"] == "symlink":
        await tree.symlink(path, await _text(frames), **owner)
    else:
        pieces = (frame.data async for frame in frames)
        await tree.write(path, pieces, **owner, mode=given["mode"], append=given["write"] == "append")


async def _shown(tree: Tree, path: str, info: FileInfo, head: rest_pb2.Document) -> AsyncIterator[rest_pb2.Chunk]:
    """A directory as the list of its names, a symlink as its target, a file as its content."""
    if info.type == "directory":
        yield rest_pb2.Chunk(head=head, data=documents.render(list(info.entries)))
    elif info.type == "symlink":
        target = info.target.encode(errors="surrogateescape")
        head.headers["content-length"] = str(len(target))
        yield rest_pb2.Chunk(head=head, data=target)
    else:
        head.headers["content-length"] = str(info.size)
        async for chunk in _content(tree, path, info.size, head):
            yield chunk


async def _content(tree: Tree, path: str, size: int, head: rest_pb2.Document) -> AsyncIterator[rest_pb2.Chunk]:
    """Exactly the announced number of bytes, or a fault: a file that shrinks meanwhile must not look whole."""
    first: rest_pb2.Document | None = head
    left = size
    async for piece in tree.read(path):
        piece = piece[:left]
        left -= len(piece)
        yield rest_pb2.Chunk(head=first, data=piece) if first else rest_pb2.Chunk(data=piece)
        first = None
        if not left:
            break
    if first:
        head.headers["content-length"] = "0"
        yield rest_pb2.Chunk(head=head)


def _given(headers: Any) -> dict[str, Any]:
    """What the client says of the file. Raises BadRequest in LXD's words."""
    kind = headers.get("x-lxd-type") or "file"
    if kind not in TYPES:
        raise BadRequest(f"Bad file type: {kind}")
    write = headers.get("x-lxd-write") or "overwrite"
    if write not in WRITES:
        raise BadRequest(f"Bad file write mode: {write}")
    return {
        "type": kind,
        "write": write,
        "uid": _number(headers, "x-lxd-uid", 10),
        "gid": _number(headers, "x-lxd-gid", 10),
        "mode": _number(headers, "x-lxd-mode", 8),
    }


def _number(headers: Any, name: str, base: int) -> int | None:
    """The header's number; None when it is not there (or -1, LXD's way to say so)."""
    text = headers.get(name, "")
    if text in ("", "-1"):
        return None
    try:
        number = int(text, base)
    except ValueError:
        raise BadRequest(f'Invalid header {name}: "{text}" is no number') from None
    if not 0 <= number < 2**32:
        raise BadRequest(f'Invalid header {name}: "{text}" is out of range')
    return number


async def _text(frames: AsyncIterator[instance_pb2.FileFrame]) -> str:
    """The body of a symlink: its target."""
    target = bytearray()
    async for frame in frames:
        target += frame.data
        if len(target) > 4096:
            raise BadRequest("A symlink's target is at most 4096 bytes long")
    return target.decode(errors="surrogateescape")
