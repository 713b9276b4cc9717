"""Makes the Secrets of a Kubernetes deployment.

A certificate authority, a certificate a part, the bus's passwords, the server's certificate.

Usage: python -m tools.cluster_secrets [--keep FILE] > secrets.yaml; kubectl apply -f secrets.yaml
With --keep the authority and the passwords of an earlier output are kept and only certificates are renewed: parts
read theirs again without a restart, and old and new ones trust each other while the change spreads.
"""

from __future__ import annotations

import argparse
import base64
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMESPACE = "nubibus"
# Every part's certificate bears this name first: parts recognise each other by authority and name, not by address.
COMMON = "nubibus"
NATS_NAMES = ("nats", "nats.nubibus.svc", "*.nats.nubibus.svc", "localhost")
PARTS: dict[str, tuple[str, ...]] = {"nats": NATS_NAMES, "gateway": (), "control": (), "images": (), "node": ()}
AUTHORITY_DAYS = 3650
PART_DAYS = 365

Key = ec.EllipticCurvePrivateKey
Secret = dict[str, object]


@dataclass(frozen=True)
class Authority:
    key: Key
    certificate: x509.Certificate

    @classmethod
    def fresh(cls) -> Authority:
        key = ec.generate_private_key(ec.SECP384R1())
        builder = _builder("nubibus authority", AUTHORITY_DAYS, key).issuer_name(_name("nubibus authority"))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return cls(key, builder.sign(key, hashes.SHA384()))

    @classmethod
    def of(cls, secret: dict[str, bytes]) -> Authority:
        key = serialization.load_pem_private_key(secret["ca.key"], None)
        assert isinstance(key, Key)
        return cls(key, x509.load_pem_x509_certificate(secret["ca.crt"]))

    def issue(
        self, name: str, names: tuple[str, ...], addresses: tuple[str, ...] = (), *, days: int = PART_DAYS
    ) -> dict[str, bytes]:
        """ca.crt, tls.crt and tls.key of a part, PEM, valid for the common name, its own names and addresses."""
        key = ec.generate_private_key(ec.SECP384R1())
        called = [x509.DNSName(n) for n in (COMMON, *names)]
        alternatives = x509.SubjectAlternativeName([*called, *(x509.IPAddress(ip_address(a)) for a in addresses)])
        builder = _builder(name, days, key).issuer_name(self.certificate.subject)
        certificate = builder.add_extension(alternatives, critical=False).sign(self.key, hashes.SHA384())
        return {"ca.crt": _pem(self.certificate), "tls.crt": _pem(certificate), "tls.key": _key_pem(key)}


def server_certificate() -> dict[str, bytes]:
    """The certificate that clients of the REST API pin on first use: self-signed, as LXD's."""
    key = ec.generate_private_key(ec.SECP384R1())
    builder = _builder("nubibus", AUTHORITY_DAYS, key).issuer_name(_name("nubibus"))
    certificate = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("gateway.nubibus.svc"), x509.DNSName("localhost")]), critical=False
    ).sign(key, hashes.SHA384())
    return {"tls.crt": _pem(certificate), "tls.key": _key_pem(key)}


def manifests(kept: dict[str, dict[str, bytes]], nats_addresses: tuple[str, ...] = ()) -> list[Secret]:
    """The Secrets, with authority, passwords and server certificate out of `kept` where it has them.

    `nats_addresses` is for who reaches NATS by address and not by the name of its Service.
    """
    authority = Authority.of(kept["nubibus-authority"]) if "nubibus-authority" in kept else Authority.fresh()
    found = [_secret("nubibus-authority", {"ca.crt": _pem(authority.certificate), "ca.key": _key_pem(authority.key)})]
    passwords = kept.get("nubibus-nats") or {
        "password": _password(),
        "subscriber-password": _password(),
    }
    found.append(_secret("nubibus-nats", passwords))
    found.append(_secret("nubibus-server", kept.get("nubibus-server") or server_certificate()))
    for part, names in PARTS.items():
        addresses = nats_addresses if part == "nats" else ()
        found.append(_secret(f"nubibus-tls-{part}", authority.issue(part, names, addresses)))
    return found


def _password() -> bytes:
    """A word that nats-server's configuration reads as a string: one that begins with digits could be a number or a date."""
    return f"p{secrets.token_hex(32)}".encode()


def read(path: Path) -> dict[str, dict[str, bytes]]:
    """Secrets by name, their data decoded."""
    documents = yaml.safe_load_all(path.read_text())
    return {d["metadata"]["name"]: {k: base64.b64decode(v) for k, v in d["data"].items()} for d in documents if d}


def _secret(name: str, data: dict[str, bytes]) -> Secret:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def _builder(name: str, days: int, key: Key) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: Key) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="an earlier output whose authority and passwords are kept")
    arguments = parser.parse_args()
    yaml.safe_dump_all(manifests(read(arguments.keep) if arguments.keep else {}), sys.stdout, sort_keys=False)
