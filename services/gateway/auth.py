"""Who may do what: from the facts of a connection to a Caller, and from a route's permission to yes or no.

The unix socket is trusted: whoever may open it (its group) is an administrator, as in LXD. Over TLS a client
is who its certificate's fingerprint says, if that fingerprint stands in the log and the certificate is valid
today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography import x509

from chassis import errors, go_json
from chassis.calls import Caller
from chassis.mirror import Mirror
from rows.control import Certificate, Project, has_feature
from services.gateway.authority import Authority
from services.gateway.peers import Peer

GUEST = "guest"
ADMIN = "admin"
METRICS_PATHS = ("/1.0/metrics",)  # what a certificate of type "metrics" is for
METRICS_PORT = ("/", "/1.0", *METRICS_PATHS)  # what there is at core.metrics_address
METRICS_ROLE = "metrics"
DEFAULT = "default"
SHARED = {  # what a permission is for, and the feature with which a project has its own
    "manage-images": "images",
    "manage-networks": "networks",
    "manage-profiles": "profiles",
    "manage-storage-volumes": "storage.volumes",
}


class Trust:
    """Knows the trusted certificates, and the authority that must have signed them if there is one."""

    def __init__(
        self,
        certificates: Mirror[Certificate],
        projects: Mirror[Project],
        authority: Authority,
        trusts_authority: Callable[[], bool],
    ) -> None:
        self.certificates = certificates
        self.projects = projects
        self.authority = authority
        self.trusts_authority = trusts_authority

    def caller(self, peer: Peer) -> Caller:
        """The caller of a connection. Found once a connection, and again when what it rests on changes."""
        if peer.uid is not None:
            if peer.known is None:
                caller = Caller(protocol="unix", username=peer.username, address="@", admin=True, trusted=True)
                peer.known = ((), caller)
            return peer.known[1]
        row = self.certificates.get(peer.fingerprint) if peer.fingerprint else None
        basis = (row.revision if row else -1, *self.authority.version, self.trusts_authority())
        if peer.known is None or peer.known[0] != basis:
            peer.known = (basis, self._found(peer, row.value if row else None))
        return peer.known[1]

    def _found(self, peer: Peer, entry: Certificate | None) -> Caller:
        stranger = Caller(protocol="tls", address=peer.address, fingerprint=peer.fingerprint)
        certificate = read(peer.certificate)
        if certificate is None or not valid_today(certificate):
            return stranger
        if self.authority.exists and not self.authority.vouches_for(certificate):
            return stranger
        if entry is None:
            if not (self.authority.exists and self.trusts_authority()):
                return stranger
            entry = Certificate(fingerprint=peer.fingerprint, name="", certificate="")
        return Caller(
            protocol="tls",
            username=peer.fingerprint,
            address=peer.address,
            fingerprint=peer.fingerprint,
            admin=not entry.restricted and entry.type != METRICS_ROLE,
            trusted=True,
            projects=entry.projects if entry.restricted else None,
            role=entry.type,
        )


def read(der: bytes) -> x509.Certificate | None:
    """The certificate, None if there is none or it cannot be read."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def valid_today(certificate: x509.Certificate) -> bool:
    """Whether the present lies within a certificate's dates."""
    return certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc


def not_authorized() -> errors.Forbidden:
    return errors.Forbidden("not authorized")


def refuse_shared(caller: Caller, permission: str, name: str, project: Project | None) -> None:
    """Raise Forbidden for a change of what a project uses and the default project has, if the caller has no rights for that one.

    `name` is that of the project that is asked for, `project` its row. Who may use a network may not for that set how its DHCP runs.
    """
    feature = SHARED.get(permission)
    if feature is None or name == DEFAULT or (project is not None and has_feature(project, feature)):
        return
    if not caller.may(permission, DEFAULT):
        raise not_authorized()


def refuse_foreign_projects(caller: Caller, body: bytes, permission: str) -> None:
    """Raise Forbidden for a body that names a project which a restricted caller may not see, wherever in it.

    One place for every way to reach into another project: as the source of a copy, as the target of a move, and what comes later.
    What stands at the top is a target: there the caller must have the route's `permission` too.
    Raises BadRequest for JSON that cannot be read whole: who is less strict might find a project in it.
    """
    if caller.admin or caller.projects is None:
        return
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if body.lstrip()[:1] in (b"{", b"["):
            raise errors.BadRequest(go_json.complaint(body) or "invalid JSON") from None
        return
    targets = found.items() if isinstance(found, dict) else ()
    for name, project in targets:
        named = name.lower() == "project" and isinstance(project, str) and project
        if named and not caller.may(permission, project):
            raise not_authorized()
    for project in projects_in(found):
        if not caller.may_see(project):
            raise not_authorized()


def projects_in(found: Any) -> Iterator[str]:
    """Values of every field named "project", at any depth."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name.lower() == "project" and isinstance(value, str) and value:  # Go reads names without regard to case
                yield value
            else:
                yield from projects_in(value)
    elif isinstance(found, list):
        for value in found:
            yield from projects_in(value)


def authorize(caller: Caller, permission: str, path: str, project: str | None, *, open_metrics: bool = False) -> None:
    """Raise Forbidden unless the caller may. `project` is the one that is asked for; None if the route has none.

    `permission` is the route's, or for an RBAC user what `permissions.needed` says.
    """
    if permission == GUEST or (open_metrics and path in METRICS_PATHS):
        return
    if not caller.trusted:
        raise not_authorized()
    if caller.role == METRICS_ROLE and path not in METRICS_PATHS:
        raise not_authorized()
    if caller.admin or caller.role == METRICS_ROLE:
        return
    if permission == ADMIN or (project is not None and not caller.may(permission, project)):
        raise not_authorized()
