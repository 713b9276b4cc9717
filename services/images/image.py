"""Images over REST, and what other services ask of them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec

from chassis import errors
from chassis.calls import Call
from chassis.change import Change
from chassis.documents import answer, check_if_match, document, empty, etag_of, read_body, render, timestamp
from chassis.events import lifecycle
from chassis.listing import chunks, parse_filter, urls
from chassis.operations import Accepted, Operation, requestor_of
from chassis.sagas import Sagas
from chassis.store import Store
from gen.nubibus.images.v1 import image_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.image import IMAGE, Image
from services.images.export import export
from services.images.last_used import LastUsed
from services.images.parts import Parts
from services.images.refresh import refresh
from services.images.sagas import deleting, importing, publishing, pulling
from services.images.shelf import Found, sees_all, url
from services.images.source import as_args, publication, pull, read_source
from services.images.upload import pieces, receive, told_apart

JSON_BODY = 1024 * 1024  # bytes


class ImagePut(msgspec.Struct):
    auto_update: bool | msgspec.UnsetType = msgspec.UNSET
    properties: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET
    public: bool | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType = msgspec.UNSET
    profiles: tuple[str, ...] | msgspec.UnsetType | None = msgspec.UNSET


class Images:
    service = "nubibus.images.v1.Images"

    def __init__(self, store: Store, parts: Parts, sagas: Sagas, used: LastUsed) -> None:
        self.store = store
        self.parts = parts
        self.files = parts.files
        self.shelf = parts.shelf
        self.sagas = sagas
        self.used = used

    # Reading.

    def document(self, image: Image) -> dict[str, Any]:
        """As LXD shows it, in LXD's order."""
        shown: dict[str, Any] = {
            "auto_update": image.auto_update,
            "properties": dict(sorted(image.properties.items())),
            "public": image.public,
            "expires_at": timestamp(image.expires_at),
            "profiles": list(image.profiles),
            "aliases": [
                {"name": row.value.name, "description": row.value.description} for row in self.shelf.aliases_of(image)
            ],
            "architecture": image.architecture,
            "cached": image.cached,
            "filename": image.filename,
            "fingerprint": image.fingerprint,
            "size": image.size,
        }
        if image.update_source:
            shown["update_source"] = image.update_source
        return {
            **shown,
            "type": image.type,
            "created_at": timestamp(image.created_at),
            "last_used_at": timestamp(self.used.of(image)),
            "uploaded_at": timestamp(image.uploaded_at),
        }

    @staticmethod
    def editable(image: Image) -> list[Any]:
        return [image.public, image.auto_update, image.properties, timestamp(image.expires_at), list(image.profiles)]

    async def List(self, request: image_pb2.ListImagesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        wanted = parse_filter(request.filter)
        all_of_them = sees_all(call.caller, request.project)
        rows = [row.value for row in self.shelf.of(request.project) if row.value.public or all_of_them]
        rows.sort(key=lambda image: image.fingerprint)
        if wanted or request.recursion:
            shown = [found for found in map(self.document, rows) if wanted.matches(found)]
            locations = [url(found["fingerprint"]) for found in shown]
        else:
            shown, locations = [], [url(image.fingerprint) for image in rows]
        rendered = (render(found) for found in shown) if request.recursion else urls(locations)
        async for chunk in chunks(rendered, head=rest_pb2.Document(revision=self.store.revision)):
            yield chunk

    def _readable(self, request: image_pb2.GetImageRequest, call: Call) -> tuple[Found, Operation | None]:
        """An image that the caller may read, and the token that allows it, if it is one that does."""
        if sees_all(call.caller, request.project):
            return self.shelf.one(request.project, request.fingerprint), None
        if request.secret:
            row = self.shelf.one(request.project, request.fingerprint)
            token = self._token(row.value, request.secret)
            if token is not None:
                return row, token
        return self.shelf.one(request.project, request.fingerprint, public=True), None

    async def Get(self, request: image_pb2.GetImageRequest, call: Call) -> rest_pb2.Document:
        image = self._readable(request, call)[0].value
        return document(self.document(image), editable=self.editable(image), revision=self.store.revision)

    async def Export(self, request: image_pb2.GetImageRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        row, token = self._readable(request, call)
        if token is not None:
            await self.sagas.operations.end(token.id)
        image = row.value
        event = lifecycle("image-retrieved", url(image.fingerprint), project=image.project, requestor=requestor_of())
        await self.store.commit(Change().event(event))
        async for chunk in export(self.files, image):
            yield chunk

    # Secrets.

    async def Secret(self, request: image_pb2.GetImageRequest, call: Call) -> rest_pb2.Answer:
        image = self.shelf.one(request.project, request.fingerprint).value
        accepted = await self.sagas.operations.open_token(
            description="Image download token",
            project=request.project or "default",
            resources={"images": [url(image.fingerprint)]},
            metadata={"secret": secrets.token_hex(32)},
        )
        event = lifecycle(
            "image-secret-created", url(image.fingerprint), project=image.project, requestor=requestor_of()
        )
        await self.store.commit(Change().event(event))
        return _accepted(accepted)

    def _token(self, image: Image, secret: str) -> Operation | None:
        for row in self.sagas.operations.rows.select():
            operation = row.value
            given = (operation.metadata or {}).get("secret", "")
            if operation.kind != "token" or operation.final or not isinstance(given, str):
                continue
            if url(image.fingerprint) in operation.resources.get("images", ()) and secrets.compare_digest(
                given, secret
            ):
                return operation
        return None

    # Adding and deleting.

    async def Create(self, frames: AsyncIterator[image_pb2.CreateImageFrame], call: Call) -> rest_pb2.Answer:
        first = await anext(aiter(frames))
        request = first.request
        if not sees_all(call.caller, request.project):
            raise errors.Forbidden("not authorized")
        project = self.shelf.project(request.project)
        if not sees_all(call.caller, project):  # as the gateway has it for what is not open to guests
            raise errors.Forbidden("not authorized")
        json, body = await told_apart(request.content_type, pieces(frames))
        if json:
            return await self._from_source(await _whole(body), request.project or "default")
        return await self._upload(request, project, body)

    async def _upload(
        self, request: image_pb2.CreateImageRequest, project: str, body: AsyncIterator[bytes]
    ) -> rest_pb2.Answer:
        told = importing.read_headers(dict(request.headers))
        self.shelf.check_profiles(request.project, [name for name in told["profiles"] if name != "default"])
        incoming = self.files.incoming(uuid.uuid4().hex, budget=self.parts.room.budget(project))
        received = await receive(body, request.content_type, incoming)
        try:
            upload = importing.Upload(
                token=incoming.token,
                project=project,
                fingerprint=incoming.fingerprint,
                size=incoming.size,
                failure=received.failure,
                disk=received.disk,
                **{**told, "filename": told["filename"] or received.filename},
            )
            args = msgspec.to_builtins(upload)
            locks = (("image", "", incoming.fingerprint),) if not received.failure else ()
            accepted = await self.sagas.accept(
                importing.IMPORT, args, project=request.project or "default", locks=locks
            )
        except BaseException:
            incoming.drop()
            raise
        return _accepted(accepted)

    async def _from_source(self, body: bytes, project: str) -> rest_pb2.Answer:
        """A JSON body: an image out of an instance, which is busy meanwhile, or from another server."""
        found = read_source(body)
        if found.source is not None and found.source.type == "image":
            fetched = pull(found, self.shelf.project(project))
            self.shelf.check_profiles(project, [name for name in fetched.profiles if name != "default"])
            return _accepted(await self.sagas.accept(pulling.PULL, as_args(fetched), project=project))
        wanted = publication(found, project, self.shelf.project(project), self.parts)
        self.shelf.check_profiles(project, [name for name in wanted.profiles if name != "default"])
        locks = () if "/" in wanted.source else (("instance", project, wanted.source),)
        accepted = await self.sagas.accept(publishing.PUBLISH, as_args(wanted), project=project, locks=locks)
        return _accepted(accepted)

    async def Delete(self, request: image_pb2.DeleteImageRequest, call: Call) -> rest_pb2.Answer:
        image = self.shelf.one(request.project, request.fingerprint).value
        lock = ("image", "", image.fingerprint)
        holder = self.sagas.operations.holder(lock)
        if holder is not None and holder.saga == deleting.DELETE.name:
            raise errors.NotFound("Image not found")  # to a second deleter it is gone: clients clean up twice
        accepted = await self.sagas.accept(
            deleting.DELETE,
            {"fingerprint": image.fingerprint, "project": image.project},
            project=request.project or "default",
            resources={"images": [url(image.fingerprint)]},
            locks=(lock,),
        )
        return _accepted(accepted)

    async def Refresh(self, request: image_pb2.GetImageRequest, call: Call) -> rest_pb2.Answer:
        image = self.shelf.one(request.project, request.fingerprint).value
        return _accepted(await refresh(self.sagas, image))

    # Editing.

    async def Put(self, request: image_pb2.PutImageRequest, call: Call) -> rest_pb2.Document:
        row, put = self._for_change(request)
        image = row.value
        properties = put.properties if isinstance(put.properties, dict) else {}
        profiles = put.profiles if isinstance(put.profiles, tuple) else ("default",)
        changed = msgspec.structs.replace(
            image,
            auto_update=put.auto_update is True,
            public=put.public is True,
            properties=properties,
            expires_at=_moment(put.expires_at) if isinstance(put.expires_at, str) else importing.EPOCH,
            profiles=profiles,
        )
        return await self._write(row, changed, request.project)

    async def Patch(self, request: image_pb2.PutImageRequest, call: Call) -> rest_pb2.Document:
        row, put = self._for_change(request)
        image = row.value
        merged = {**image.properties, **(put.properties if isinstance(put.properties, dict) else {})}
        changed = msgspec.structs.replace(
            image,
            auto_update=image.auto_update if put.auto_update is msgspec.UNSET else put.auto_update is True,
            public=image.public if put.public is msgspec.UNSET else put.public is True,
            properties={key: text for key, text in merged.items() if text != ""},
            expires_at=_moment(put.expires_at) if isinstance(put.expires_at, str) else image.expires_at,
            profiles=put.profiles if isinstance(put.profiles, tuple) else image.profiles,
        )
        return await self._write(row, changed, request.project)

    def _for_change(self, request: image_pb2.PutImageRequest) -> tuple[Found, ImagePut]:
        row = self.shelf.one(request.project, request.fingerprint)
        check_if_match(request.if_match, etag_of(self.editable(row.value)))
        return row, read_body(request.body, ImagePut)

    async def _write(self, row: Found, image: Image, project: str) -> rest_pb2.Document:
        self.shelf.check_profiles(project, [name for name in image.profiles if name not in row.value.profiles])
        change = Change().put(IMAGE, image, expect=row.revision)
        location = url(image.fingerprint, image.project)
        change.event(lifecycle("image-updated", location, project=image.project, requestor=requestor_of()))
        return empty(revision=await self.store.commit(change))

    # For other services.

    async def Resolve(self, request: image_pb2.ResolveRequest, call: Call) -> image_pb2.ResolvedImage:
        image = self._resolved(request)
        if request.type and request.type != image.type:
            raise errors.BadRequest(f"The image is of type {image.type}, not {request.type}")
        return image_pb2.ResolvedImage(
            project=image.project,
            fingerprint=image.fingerprint,
            type=image.type,
            architecture=image.architecture,
            properties=image.properties,
            profiles=image.profiles,
            split=image.split,
            size=image.size,
        )

    def _resolved(self, request: image_pb2.ResolveRequest) -> Image:
        if request.alias:
            target = self.shelf.alias(request.project, request.alias).value.target
            return self.shelf.one(request.project, target).value
        if request.fingerprint:
            return self.shelf.one(request.project, request.fingerprint).value
        if request.properties:
            wanted = dict(request.properties).items()
            rows = [row.value for row in self.shelf.of(request.project) if wanted <= row.value.properties.items()]
            if not rows:
                raise errors.NotFound("No matching image could be found")
            return max(rows, key=lambda image: (image.created_at is not None, image.created_at))
        raise errors.BadRequest("Must specify one of alias, fingerprint or properties for init from image")

    async def Fetch(self, request: image_pb2.FetchRequest, call: Call) -> AsyncIterator[image_pb2.FetchChunk]:
        meta = self.files.meta(request.fingerprint)
        rows = self.shelf.anywhere(request.fingerprint)
        if not rows or not meta.exists():
            raise errors.NotFound("Image not found")
        named = [("meta", meta), ("rootfs", self.files.rootfs(request.fingerprint))]
        for name, path in named if rows[0].value.split else named[:1]:
            yield image_pb2.FetchChunk(file=name)
            async for piece in self.files.read(path):
                yield image_pb2.FetchChunk(data=piece)

    async def Used(self, request: image_pb2.UsedImageRequest, call: Call) -> rest_pb2.Empty:
        self.used.note(self.shelf.project(request.project), request.fingerprint)
        return rest_pb2.Empty()


async def _whole(body: AsyncIterator[bytes]) -> bytes:
    taken = bytearray()
    async for piece in body:
        taken += piece
        if len(taken) > JSON_BODY:
            raise errors.TooLarge(f"The body is larger than {JSON_BODY} bytes")
    return bytes(taken)


def _moment(text: str) -> datetime:
    """RFC 3339. Raises BadRequest in Go's words."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no offset")
    except ValueError:
        raise errors.BadRequest(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}"'
        ) from None
    return found


def _accepted(found: Accepted) -> rest_pb2.Answer:
    return answer(rest_pb2.Accepted(id=found.id, operation=found.operation, revision=found.revision))
