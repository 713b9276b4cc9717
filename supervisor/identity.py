"""The server's own certificate, made at the first start: self-signed, ECDSA P-384, ten years, as LXD makes it."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from supervisor.directory import group_of
from supervisor.parts import USER


def ensure(directory: Path) -> None:
    """Make D/server.crt and D/server.key unless both are there. The gateway, which has no root, may read the key."""
    certificate, key = directory / "server.crt", directory / "server.key"
    if certificate.exists() and key.exists():
        return
    certificate_pem, key_pem = make(socket.gethostname())
    _write(key, key_pem, 0o640)
    _write(certificate, certificate_pem, 0o644)


def make(host: str) -> tuple[bytes, bytes]:
    """A certificate and its key, both PEM."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "linuxcontainers.org"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"root@{host}"[:64]),
        ]
    )
    now = datetime.now(UTC)
    loopback = [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host), *loopback]), critical=False)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _write(path: Path, data: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as out:
        if os.geteuid() == 0:
            os.fchown(out.fileno(), 0, group_of(USER))
        os.fchmod(out.fileno(), mode)
        out.write(data)
        os.fsync(out.fileno())
    partial.replace(path)
