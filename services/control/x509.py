"""Client certificates: read from what a client sent, judged, named by their fingerprint."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.x509.oid import NameOID

from chassis import errors

LEAST_RSA = 2048  # bits


@dataclass(frozen=True)
class Shown:
    """A certificate that was read."""

    pem: str
    fingerprint: str
    common_name: str


def read(text: str) -> Shown:
    """From base64 of the DER form, or PEM. Raises BadRequest for what is no certificate, has no valid date or a weak key."""
    if "-----BEGIN CERTIFICATE-----" in text:
        text = text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise errors.BadRequest(f"illegal base64 data at input byte {_first_wrong(text)}") from None
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
    except Exception:  # the library raises more than ValueError for hostile input
        raise errors.BadRequest("The certificate cannot be read: it is no X.509 certificate in DER form") from None
    _judge(certificate, key)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Shown(
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        fingerprint=sha256(der).hexdigest(),
        common_name=str(names[0].value) if names else "",
    )


def _judge(certificate: x509.Certificate, key: object) -> None:
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        raise errors.BadRequest("The provided certificate isn't valid yet")
    if now > certificate.not_valid_after_utc:
        raise errors.BadRequest("The provided certificate is expired")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA:
        raise errors.BadRequest(
            f"The provided certificate has an RSA key of {key.key_size} bits, at least {LEAST_RSA} are needed"
        )
    if isinstance(key, dsa.DSAPublicKey):
        raise errors.BadRequest("The provided certificate has a DSA key; use RSA, ECDSA or Ed25519")


def _first_wrong(text: str) -> int:
    allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    return next((number for number, letter in enumerate(text) if letter not in allowed), len(text))
