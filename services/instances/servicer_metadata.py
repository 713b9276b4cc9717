"""REST face of an instance's metadata.yaml and of its templates. Both came with an image: links are never followed."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import yaml

from chassis import beneath, documents, listing, plain_yaml
from chassis.calls import Call, current
from chassis.errors import BadRequest, Internal, NotFound, TooLarge
from gen.nubibus.instances.v1 import instance_pb2
from gen.nubibus.rest.v1 import rest_pb2
from services.instances.body import read
from services.instances.occurrences import tell
from services.instances.parts import Parts
from services.instances.roster import Member
from services.instances.servicer_instances import found

METADATA, TEMPLATES = "metadata.yaml", "templates"
LARGEST = 1024 * 1024
NAME = re.compile(r"[^/\0]{1,255}")


class Template(msgspec.Struct, kw_only=True):
    when: list[str] = []
    create_only: bool = False
    template: str = ""
    properties: dict[str, str] = {}


class Metadata(msgspec.Struct, kw_only=True):
    """LXD's ImageMetadata."""

    architecture: str = ""
    creation_date: int = 0
    expiry_date: int = 0
    properties: dict[str, str] = {}
    templates: dict[str, Template] = {}


class MetadataPatch(msgspec.Struct, kw_only=True):
    architecture: str | None = None
    creation_date: int | None = None
    expiry_date: int | None = None
    properties: dict[str, str] | None = None
    templates: dict[str, Template] | None = None


class MetadataMethods:
    """The methods of Instances about metadata and templates."""

    parts: Parts

    async def GetMetadata(self, request: instance_pb2.InstanceRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        metadata = await self._metadata(member)
        await self._tell_metadata("instance-metadata-retrieved", member)
        return documents.document(metadata, editable=msgspec.to_builtins(metadata))

    async def PutMetadata(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        await self._check_match(member, request.if_match)
        return await self._write_metadata(member, read(request.body, Metadata))

    async def PatchMetadata(self, request: instance_pb2.PutInstanceRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        await self._check_match(member, request.if_match)
        patch: MetadataPatch = read(request.body, MetadataPatch)
        old = await self._metadata(member)
        new = Metadata(
            architecture=old.architecture if patch.architecture is None else patch.architecture,
            creation_date=old.creation_date if patch.creation_date is None else patch.creation_date,
            expiry_date=old.expiry_date if patch.expiry_date is None else patch.expiry_date,
            properties={**old.properties, **(patch.properties or {})},
            templates={**old.templates, **(patch.templates or {})},
        )
        return await self._write_metadata(member, new)

    async def _check_match(self, member: Member, if_match: str) -> None:
        if if_match:
            documents.check_if_match(if_match, documents.etag_of(msgspec.to_builtins(await self._metadata(member))))

    async def _metadata(self, member: Member) -> Metadata:
        volume = await self.parts.volumes.mount(member.volume)
        text = await asyncio.to_thread(_read, volume, METADATA)
        if text is None:
            return Metadata()
        try:
            return msgspec.convert(plain_yaml.load(text) or {}, Metadata, strict=False)
        except ValueError as error:  # msgspec's is one too
            raise Internal(f"Could not parse {METADATA}: {error}") from None

    async def _write_metadata(self, member: Member, metadata: Metadata) -> rest_pb2.Document:
        volume = await self.parts.volumes.mount(member.volume)
        text = yaml.safe_dump(msgspec.to_builtins(metadata), sort_keys=False, default_flow_style=False)
        current().act()
        await asyncio.to_thread(_write, volume, "", METADATA, text.encode())
        await self._tell_metadata("instance-metadata-updated", member)
        return documents.empty()

    async def GetTemplates(self, request: instance_pb2.TemplateRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        member = found(self.parts, request)
        volume = await self.parts.volumes.mount(member.volume)
        if not request.path:
            names = await asyncio.to_thread(_list, volume)
            async for chunk in listing.whole(names):
                yield chunk
            return
        data = await asyncio.to_thread(_read, volume, f"{TEMPLATES}/{_valid(request.path)}")
        if data is None:
            raise NotFound(f'Template "{request.path}" not found')
        await self._tell_metadata("instance-metadata-template-retrieved", member, request.path)
        headers = {"content-type": "application/octet-stream"}
        yield rest_pb2.Chunk(head=rest_pb2.Document(raw=True, headers=headers), data=data)

    async def PostTemplate(self, request: AsyncIterator[instance_pb2.TemplateFrame], call: Call) -> rest_pb2.Document:
        frames = aiter(request)
        first = await anext(frames, None)
        if first is None or not first.request.path:
            raise BadRequest("missing path argument")
        head = first.request
        name = _valid(head.path)
        member = found(self.parts, head)
        data = bytearray()
        async for frame in frames:
            data += frame.data
            if len(data) > LARGEST:
                raise TooLarge(f"A template is at most {LARGEST} bytes long")
        volume = await self.parts.volumes.mount(member.volume)
        call.act()
        await asyncio.to_thread(_write, volume, TEMPLATES, name, bytes(data))
        await self._tell_metadata("instance-metadata-template-created", member, name)
        return documents.empty()

    async def DeleteTemplate(self, request: instance_pb2.TemplateRequest, call: Call) -> rest_pb2.Document:
        member = found(self.parts, request)
        if not request.path:
            raise BadRequest("missing path argument")
        name = _valid(request.path)
        volume = await self.parts.volumes.mount(member.volume)
        if name in await asyncio.to_thread(_list, volume):
            call.act()
        if not await asyncio.to_thread(_delete, volume, name):
            raise NotFound(f'Template "{name}" not found')
        await self._tell_metadata("instance-metadata-template-deleted", member, name)
        return documents.empty()

    async def _tell_metadata(self, action: str, member: Member, template: str = "") -> None:
        context = {"path": template} if template else None
        await tell(self.parts, action, member.value, context, "/metadata/templates" if template else "/metadata")


def _valid(name: str) -> str:
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise Internal("Invalid template filename")
    return name


def _read(volume: Path, path: str) -> bytes | None:
    try:
        with beneath.tree(volume) as tree:
            return beneath.read_beneath(tree, path, LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Internal(f"Could not read {path}: {error.strerror}") from None


def _list(volume: Path) -> list[str]:
    try:
        with beneath.tree(volume) as tree:
            folder = beneath.open_beneath(tree, TEMPLATES, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return sorted(os.listdir(folder))
            finally:
                os.close(folder)
    except OSError:
        return []


def _folder(tree: int, folder: str) -> int:
    """A descriptor of the folder below the volume; made if it is not there."""
    if folder:
        with suppress(FileExistsError):
            os.mkdir(folder, 0o755, dir_fd=tree)
    return beneath.open_beneath(tree, folder or ".", os.O_RDONLY | os.O_DIRECTORY)


def _write(volume: Path, folder: str, name: str, data: bytes) -> None:
    """Replace a file as a whole, never through a link."""
    partial = f".{name[:200]}.new"
    try:
        with beneath.tree(volume) as tree:
            at = _folder(tree, folder)
            try:
                with suppress(FileNotFoundError):
                    os.unlink(partial, dir_fd=at)
                descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=at)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(partial, name, src_dir_fd=at, dst_dir_fd=at)
                os.fsync(at)
            finally:
                os.close(at)
    except OSError as error:
        raise Internal(f"Could not write {name}: {error.strerror}") from None


def _delete(volume: Path, name: str) -> bool:
    try:
        with beneath.tree(volume) as tree:
            folder = beneath.open_beneath(tree, TEMPLATES, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
            finally:
                os.close(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Internal(f"Could not delete {name}: {error.strerror}") from None
    return True
