"""PKI mode: with D/server.ca, only certificates that this authority signed and did not revoke (D/ca.crl) can be trusted at all."""

from __future__ import annotations

from pathlib import Path

import structlog
from cryptography import x509

log = structlog.get_logger()


class Authority:
    """The authority of a data directory, if it has one. `reload` reads the files again when they change."""

    def __init__(self, directory: Path) -> None:
        self.files = (directory / "server.ca", directory / "ca.crl")
        self.version: tuple[int, ...] = ()
        self.certificate: x509.Certificate | None = None
        self.revoked: x509.CertificateRevocationList | None = None
        self.broken = False  # a file is there and cannot be used: nobody is vouched for
        self.reload()

    @property
    def exists(self) -> bool:
        return self.certificate is not None or self.broken

    def reload(self) -> None:
        version = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in self.files)
        if version == self.version:
            return
        self.version = version
        self.certificate = self.revoked = None
        self.broken = False
        try:
            self._read()
        except (OSError, ValueError) as error:
            log.error("the authority's files cannot be used: no client is trusted over TLS", error=str(error))
            self.broken = True

    def _read(self) -> None:
        authority, revocations = self.files
        if authority.exists():
            self.certificate = x509.load_pem_x509_certificate(authority.read_bytes())
        if self.certificate is not None and revocations.exists():
            self.revoked = x509.load_pem_x509_crl(revocations.read_bytes())
            if not self.revoked.is_signature_valid(self.certificate.public_key()):  # type: ignore[arg-type]
                raise ValueError(f"{revocations} is not signed by the authority")

    def vouches_for(self, certificate: x509.Certificate) -> bool:
        """Whether it signed the certificate and did not revoke it."""
        if self.certificate is None or self.broken:
            return False
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except Exception:  # of many kinds: a wrong issuer, a wrong signature, an unknown algorithm
            return False
        revoked = self.revoked
        return revoked is None or revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is None
