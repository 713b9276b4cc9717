"""Trusted certificates: who may add one (password, token, a trusted administrator), see, change and remove it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import msgspec

from chassis import documents, errors, listing
from chassis.calls import Call
from chassis.events import Event, lifecycle
from chassis.mirror import Mirror
from chassis.operation import CANCELLED, requestor_of
from chassis.operations import Operations
from chassis.store import Change, Store, Versioned
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.control import CERTIFICATE, Certificate, Project
from services.control import keys, passwords, tokens, x509
from services.control.configuration import Configuration
from services.control.requests import field, names, read_object
from services.control.server import Server, addresses

TYPES = ("client", "server", "metrics")
STRUCT = "CertificatesPost"


def forbidden() -> errors.Forbidden:
    return errors.Forbidden("not authorized")


class Certificates:
    """Answers for nubibus.control.v1.Certificates."""

    service: ClassVar[str] = "nubibus.control.v1.Certificates"

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        projects: Mirror[Project],
        operations: Operations,
        server: Server,
    ) -> None:
        self.store = store
        self.rows = store.mirror(CERTIFICATE)
        self.configuration = configuration
        self.projects = projects
        self.operations = operations
        self.server = server

    # Reading.

    async def List(self, request: control_pb2.PlainListRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        seen = [row.value for row in self.rows.select() if _may_see(call, row.value)]
        async for chunk in listing.chunks(listing.pieces(seen, request, _shown, _url)):
            yield chunk

    async def Get(self, request: control_pb2.CertificateRequest, call: Call) -> rest_pb2.Document:
        row = self._find(request.fingerprint, call)
        return documents.document(_shown(row.value), editable=_editable(row.value), revision=row.revision)

    def _find(self, prefix: str, call: Call) -> Versioned[Certificate]:
        """By fingerprint or an unambiguous beginning of it."""
        found = [row for row in self.rows.select() if prefix and row.value.fingerprint.startswith(prefix.lower())]
        found = [row for row in found if _may_see(call, row.value)]
        if len(found) > 1:
            raise errors.BadRequest(f"More than one certificate begins with {prefix!r}")
        if not found:
            raise errors.NotFound("Certificate not found")
        return found[0]

    # Adding.

    async def Create(self, request: control_pb2.CreateRequest, call: Call) -> rest_pb2.Answer:
        body = read_object(request.body)
        text = field(body, "certificate", str, "", STRUCT)
        if field(body, "token", bool, False, STRUCT):
            return await self._issue_token(body, text, call)
        if call.caller.trusted:
            if not text:
                raise errors.BadRequest("Client is already trusted")
            if not call.caller.admin:
                raise forbidden()
            return await self._add(self._wanted(body), text)
        return await self._admit(body, text, request.client_certificate, call)

    async def _issue_token(self, body: dict[str, Any], text: str, call: Call) -> rest_pb2.Answer:
        if not call.caller.admin:
            raise forbidden()
        if text:
            raise errors.BadRequest("Can't use certificate if token is requested")
        wanted = self._wanted(body)
        if wanted.type != "client":
            raise errors.BadRequest("Tokens can only be issued for client certificates")
        listening = self.configuration.texts.get(keys.HTTPS_ADDRESS.name, "")
        tokens.needs_address(listening)
        fields = {**_editable(wanted), "certificate": "", "password": "", "token": True}
        accepted = await tokens.issue(
            self.operations,
            fields,
            fingerprint=self.server.certificate().fingerprint,
            addresses=addresses(listening),
            expiry=self.configuration.texts.get(keys.TOKEN_EXPIRY.name, ""),
        )
        return documents.answer(
            rest_pb2.Accepted(id=accepted.id, operation=accepted.operation, revision=accepted.revision)
        )

    async def _admit(self, body: dict[str, Any], text: str, shown: str, call: Call) -> rest_pb2.Answer:
        """An untrusted client: with a token it gets what the token says, with the password what it asks for."""
        password = field(body, "password", str, "", STRUCT)
        token = tokens.decode(password)
        if token is not None:
            operation, granted = tokens.find(self.operations, token)
            return await self._add(self._wanted(granted), _own(shown), used_token=operation)
        stored = self.configuration.texts.get(keys.TRUST_PASSWORD.name, "")
        if not stored or not password or not await asyncio.to_thread(passwords.matches, password, stored):
            raise forbidden()
        wanted = self._wanted(body)
        if wanted.type != "client":
            raise forbidden()
        if not wanted.name and not text:
            wanted = msgspec.structs.replace(wanted, name=call.caller.address.rpartition(":")[0].strip("[]"))
        return await self._add(wanted, text or _own(shown))

    def _wanted(self, body: dict[str, Any]) -> Certificate:
        """What a request asks for, without the certificate itself. Raises BadRequest, or NotFound for an unknown project."""
        type_ = field(body, "type", str, "", STRUCT)
        if type_ not in TYPES:
            raise errors.BadRequest("Invalid certificate type")
        projects = names(body, "projects", STRUCT) or ()
        self._check_projects(projects)
        return Certificate(
            fingerprint="",
            name=field(body, "name", str, "", STRUCT),
            certificate="",
            type=type_,
            restricted=field(body, "restricted", bool, False, STRUCT),
            projects=projects,
        )

    def _check_projects(self, projects: tuple[str, ...]) -> None:
        if any(self.projects.get(project) is None for project in projects):
            raise errors.NotFound("Project not found")

    async def _add(self, wanted: Certificate, text: str, used_token: str = "") -> rest_pb2.Answer:
        shown = x509.read(text)
        if self.rows.get(shown.fingerprint) is not None:
            raise errors.Conflict("Certificate already in trust store")
        certificate = msgspec.structs.replace(
            wanted, fingerprint=shown.fingerprint, certificate=shown.pem, name=wanted.name or shown.common_name
        )
        change = Change().put(CERTIFICATE, certificate, expect=0)
        change.event(_event("certificate-created", certificate))
        if used_token:
            # The token is used up in the same batch in which the certificate becomes trusted: it cannot be used twice.
            revision = await self.operations.end(used_token, status_code=CANCELLED, change=change)
            if self.rows.get(shown.fingerprint) is None:
                raise forbidden()
        else:
            revision = await self.store.commit(change)
        return documents.answer(documents.empty(location=_url(certificate), revision=revision))

    # Changing.

    async def Put(self, request: control_pb2.PutCertificateRequest, call: Call) -> rest_pb2.Document:
        row = self._find(request.fingerprint, call)
        body = read_object(request.body)
        given = Certificate(
            fingerprint="",
            name=field(body, "name", str, "", "CertificatePut"),
            certificate="",
            type=field(body, "type", str, "", "CertificatePut"),
            restricted=field(body, "restricted", bool, False, "CertificatePut"),
            projects=names(body, "projects", "CertificatePut") or (),
        )
        return await self._change(row, given, body, request.if_match, call)

    async def Patch(self, request: control_pb2.PutCertificateRequest, call: Call) -> rest_pb2.Document:
        row = self._find(request.fingerprint, call)
        body = read_object(request.body)
        now = row.value
        projects = names(body, "projects", "CertificatePut")
        given = msgspec.structs.replace(
            now,
            name=field(body, "name", str, now.name, "CertificatePut"),
            type=field(body, "type", str, now.type, "CertificatePut"),
            restricted=field(body, "restricted", bool, now.restricted, "CertificatePut"),
            projects=now.projects if projects is None else projects,
        )
        return await self._change(row, given, body, request.if_match, call)

    async def _change(
        self, row: Versioned[Certificate], given: Certificate, body: dict[str, Any], if_match: str, call: Call
    ) -> rest_pb2.Document:
        now = row.value
        documents.check_if_match(if_match, documents.etag_of(_editable(now)))
        if given.type != now.type:
            raise errors.Forbidden("The certificate type cannot be changed")
        if not call.caller.admin and (given.name, given.restricted, given.projects) != (
            now.name,
            now.restricted,
            now.projects,
        ):
            raise errors.Forbidden("Only the certificate can be changed")
        self._check_projects(tuple(project for project in given.projects if project not in now.projects))
        text = field(body, "certificate", str, "", "CertificatePut")
        shown = x509.read(text) if text else x509.Shown(now.certificate, now.fingerprint, "")
        after = msgspec.structs.replace(given, fingerprint=shown.fingerprint, certificate=shown.pem)
        change = Change()
        if after.fingerprint != now.fingerprint:
            if self.rows.get(after.fingerprint) is not None:
                raise errors.Conflict("Certificate already in trust store")
            change.delete(CERTIFICATE, row.key, expect=row.revision).put(CERTIFICATE, after, expect=0)
        else:
            change.put(CERTIFICATE, after, expect=row.revision)
        change.event(_event("certificate-updated", after))
        return documents.empty(revision=await self.store.commit(change))

    async def Delete(self, request: control_pb2.CertificateRequest, call: Call) -> rest_pb2.Document:
        row = self._find(request.fingerprint, call)
        if not call.caller.admin:
            raise forbidden()
        change = Change().delete(CERTIFICATE, row.key, expect=row.revision)
        change.event(_event("certificate-deleted", row.value))
        return documents.empty(revision=await self.store.commit(change))


def _may_see(call: Call, certificate: Certificate) -> bool:
    """A restricted client sees its own entry alone."""
    return call.caller.admin or certificate.fingerprint == call.caller.fingerprint


def _own(shown: str) -> str:
    if not shown:
        raise errors.BadRequest("No client certificate provided")
    return shown


def _url(certificate: Certificate) -> str:
    return f"/1.0/certificates/{certificate.fingerprint}"


def _editable(certificate: Certificate) -> dict[str, Any]:
    return {
        "name": certificate.name,
        "type": certificate.type,
        "restricted": certificate.restricted,
        "projects": list(certificate.projects),
    }


def _shown(certificate: Certificate) -> dict[str, Any]:
    return {
        **_editable(certificate),
        "certificate": certificate.certificate,
        "fingerprint": certificate.fingerprint,
    }


def _event(action: str, certificate: Certificate) -> Event:
    return lifecycle(action, _url(certificate), requestor=requestor_of())
