"""Aliases: names for images."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from chassis import errors
from chassis.calls import Call
from chassis.change import Change
from chassis.documents import check_if_match, document, empty, etag_of, read_body
from chassis.events import Event, lifecycle
from chassis.kinds import Versioned
from chassis.listing import chunks, pieces
from chassis.operations import requestor_of
from chassis.store import Store
from gen.nubibus.images.v1 import image_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.image import IMAGE_ALIAS, ImageAlias
from services.images.shelf import Shelf, alias_url, sees_all


class AliasPost(msgspec.Struct):
    name: str = ""
    target: str = ""
    description: str = ""
    type: str = ""


class AliasPut(msgspec.Struct):
    target: str = ""
    description: str = ""


class AliasRename(msgspec.Struct):
    name: str = ""


def alias_document(alias: ImageAlias) -> dict[str, Any]:
    return {"description": alias.description, "target": alias.target, "name": alias.name, "type": alias.type}


def _etag(alias: ImageAlias) -> str:
    return etag_of(_editable(alias))


def _editable(alias: ImageAlias) -> list[str]:
    return [alias.name, alias.target, alias.description]


def _event(action: str, alias: ImageAlias, context: dict[str, Any] | None = None) -> Event:
    source = alias_url(alias.name, alias.project)
    return lifecycle(action, source, project=alias.project, context=context, requestor=requestor_of())


def _refuse_name(name: str) -> None:
    if len(name) > 512 or "\0" in name:
        raise errors.BadRequest(f"Invalid alias name {name[:40]!r}: at most 512 characters, and none that is NUL")


class Aliases:
    service = "nubibus.images.v1.Aliases"

    def __init__(self, store: Store, shelf: Shelf) -> None:
        self.store = store
        self.shelf = shelf

    async def List(self, request: image_pb2.ListAliasesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        all_of_them = sees_all(call.caller, request.project)
        rows = [row.value for row in self.shelf.aliases.select(self.shelf.project(request.project))]
        shown = sorted((a for a in rows if all_of_them or self.shelf.is_public(a)), key=lambda a: a.name)
        found = pieces(shown, request, alias_document, lambda alias: alias_url(alias.name, alias.project))
        async for chunk in chunks(found, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    async def Get(self, request: image_pb2.AliasRequest, call: Call) -> rest_pb2.Document:
        public = not sees_all(call.caller, request.project)
        alias = self.shelf.alias(request.project, request.name, public=public).value
        return document(alias_document(alias), editable=_editable(alias), revision=self.store.revision)

    async def Create(self, request: image_pb2.CreateAliasRequest, call: Call) -> rest_pb2.Document:
        body: AliasPost = read_body(request.body, AliasPost)
        if not body.name or not body.target:
            raise errors.BadRequest("name and target are required")
        _refuse_name(body.name)
        project = self.shelf.project(request.project)
        if self.shelf.aliases.get(project, body.name) is not None:
            raise _exists(body.name)
        image = self.shelf.one(project, body.target).value
        alias = ImageAlias(
            project=project, name=body.name, target=image.fingerprint, description=body.description, type=image.type
        )
        change = Change().put(IMAGE_ALIAS, alias, expect=0)
        change.event(_event("image-alias-created", alias, {"target": alias.target}))
        try:
            revision = await self.store.commit(change)
        except errors.Conflict:
            raise _exists(body.name) from None
        return empty(location=alias_url(alias.name), revision=revision)

    async def Put(self, request: image_pb2.PutAliasRequest, call: Call) -> rest_pb2.Document:
        body: AliasPut = read_body(request.body, AliasPut)
        if not body.target:
            raise errors.BadRequest("The target field is required")
        row = self._for_change(request)
        return await self._write(row, body.target, body.description)

    async def Patch(self, request: image_pb2.PutAliasRequest, call: Call) -> rest_pb2.Document:
        given: dict[str, Any] = read_body(request.body, dict[str, Any])
        for field in ("target", "description"):
            if not isinstance(given.get(field, ""), str):
                raise errors.BadRequest(f"`{field}` was not a string")
        row = self._for_change(request)
        alias = row.value
        return await self._write(row, given.get("target", alias.target), given.get("description", alias.description))

    def _for_change(self, request: image_pb2.PutAliasRequest) -> Versioned[ImageAlias]:
        row = self.shelf.alias(request.project, request.name)
        check_if_match(request.if_match, _etag(row.value))
        return row

    async def _write(self, row: Versioned[ImageAlias], target: str, description: str) -> rest_pb2.Document:
        image = self.shelf.one(row.value.project, target).value
        alias = msgspec.structs.replace(row.value, target=image.fingerprint, description=description, type=image.type)
        change = Change().put(IMAGE_ALIAS, alias, expect=row.revision)
        change.event(_event("image-alias-updated", alias, {"target": alias.target}))
        return empty(revision=await self.store.commit(change))

    async def Rename(self, request: image_pb2.PutAliasRequest, call: Call) -> rest_pb2.Document:
        body: AliasRename = read_body(request.body, AliasRename)
        row = self.shelf.alias(request.project, request.name)
        if not body.name:
            raise errors.BadRequest("The name field is required")
        _refuse_name(body.name)
        if self.shelf.aliases.get(row.value.project, body.name) is not None:
            raise _exists(body.name)
        alias = msgspec.structs.replace(row.value, name=body.name)
        change = Change().delete(IMAGE_ALIAS, row.key, expect=row.revision)
        change.put(IMAGE_ALIAS, alias, expect=0)
        change.event(_event("image-alias-renamed", alias, {"old_name": row.value.name}))
        return empty(location=alias_url(alias.name), revision=await self.store.commit(change))

    async def Delete(self, request: image_pb2.AliasRequest, call: Call) -> rest_pb2.Document:
        row = self.shelf.alias(request.project, request.name)
        change = Change().delete(IMAGE_ALIAS, row.key, expect=row.revision)
        change.event(_event("image-alias-deleted", row.value))
        return empty(revision=await self.store.commit(change))


def _exists(name: str) -> errors.Conflict:
    return errors.Conflict(f'Alias "{name}" already exists')
