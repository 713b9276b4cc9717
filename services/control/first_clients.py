"""The first clients where there is no unix socket to add them by: certificates in the directory that NUBIBUS_TRUST names.

A file `NAME.crt` makes a trusted, unrestricted client NAME. Files are only ever added: one that goes takes no trust with it, and a client
that was removed over the API comes back only with the next start.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from chassis import errors
from chassis.events import lifecycle
from chassis.mirror import Mirror
from chassis.store import Change, Store
from rows.control import CERTIFICATE, Certificate
from services.control import x509

log = structlog.get_logger()


class FirstClients:
    """`trust` may run again and again, on several replicas at once."""

    def __init__(self, store: Store, rows: Mirror[Certificate], directory: str | None = None) -> None:
        self.store = store
        self.rows = rows
        named = os.environ.get("NUBIBUS_TRUST", "") if directory is None else directory
        self.directory = Path(named) if named else None
        self.seen: set[str] = set()

    async def trust(self) -> None:
        """Adds what is new in the directory. A file that holds no certificate is told in the log and passed over."""
        for path in sorted(self.directory.glob("*.crt")) if self.directory else ():
            try:
                shown = x509.read(path.read_text())
            except (errors.Fault, OSError) as fault:
                log.warning("no certificate to trust", file=str(path), reason=str(fault))
                continue
            if shown.fingerprint not in self.seen and self.rows.get(shown.fingerprint) is None:
                await self._add(Certificate(fingerprint=shown.fingerprint, name=path.stem, certificate=shown.pem))
            self.seen.add(shown.fingerprint)

    async def _add(self, certificate: Certificate) -> None:
        change = Change().put(CERTIFICATE, certificate, expect=0)
        change.event(lifecycle("certificate-created", f"/1.0/certificates/{certificate.fingerprint}"))
        try:
            await self.store.commit(change)
        except errors.Conflict:
            log.info("another replica trusted it first", fingerprint=certificate.fingerprint)
