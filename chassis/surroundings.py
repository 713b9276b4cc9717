"""What every part needs of the place where it runs: its directory, and a certificate that is valid if it was given one."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from chassis.readiness import Readiness

RENEW = "renew it with `python -m tools.cluster_secrets --keep secrets.yaml | kubectl apply -f -`; no restart is needed"


def declare(readiness: Readiness, directory: Path) -> None:
    """On one machine the supervisor makes the directory, and a part may write only some of it; a pod's volume is all its own."""
    given = os.environ.get("NUBIBUS_TLS")
    readiness.need("directory", lambda: directory_lacks(directory, writable=bool(given)))
    if given:
        readiness.need("certificate", lambda: certificate_lacks(Path(given)))


def directory_lacks(directory: Path, *, writable: bool) -> str:
    if not directory.is_dir():
        return f"The directory {directory} is missing: mount the volume or the path of the node that belongs there"
    if writable and not os.access(directory, os.W_OK | os.X_OK):
        return f"User {os.geteuid()} cannot write in the directory {directory}: mount it writable and owned by that user (fsGroup)"
    return ""


def certificate_lacks(directory: Path, now: datetime | None = None) -> str:
    """About tls.crt, tls.key and ca.crt in `directory`."""
    from cryptography import x509

    for name in ("tls.crt", "tls.key", "ca.crt"):
        if not os.access(directory / name, os.R_OK):
            return f"{directory / name} is missing or cannot be read: mount the Secret nubibus-tls-… there"
    for name in ("tls.crt", "ca.crt"):
        try:
            certificate = x509.load_pem_x509_certificate((directory / name).read_bytes())
        except (OSError, ValueError) as error:
            return f"{directory / name} is not a certificate ({error}): {RENEW}"
        if not certificate.not_valid_before_utc <= (now or datetime.now(UTC)) < certificate.not_valid_after_utc:
            valid = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            return f"The certificate {directory / name} is valid only from {valid}: {RENEW}"
    return ""
