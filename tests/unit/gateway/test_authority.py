"""PKI mode: what an authority must have signed, and what it revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.gateway.authority import Authority
from tests.unit.gateway.test_trust import free_port, listening, trust, writer_of
from tests.unit.gateway.world import Identity, World, make_identity

PEM = serialization.Encoding.PEM


class Signer:
    """An authority of the test's own."""

    def __init__(self, name: str = "ca") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), authority=True)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        builder = builder.not_valid_after(now + timedelta(days=9))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, folder: Path, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
        made = Identity(folder / f"{name}.crt", folder / f"{name}.key")
        made.certificate.write_bytes(certificate.public_bytes(PEM))
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        made.key.write_bytes(private)
        return made

    def revoke(self, who: Identity) -> bytes:
        serial = x509.load_pem_x509_certificate(who.certificate.read_bytes()).serial_number
        now = datetime.now(UTC)
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now)
        builder = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


def read(who: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(who.certificate.read_bytes())


def test_signatures_and_revocations(tmp_path: Path) -> None:
    assert not Authority(tmp_path).exists
    signer, other = Signer(), Signer()
    (tmp_path / "server.ca").write_bytes(signer.certificate.public_bytes(PEM))
    good, revoked, foreign = signer.issue(tmp_path, "a"), signer.issue(tmp_path, "b"), other.issue(tmp_path, "c")
    authority = Authority(tmp_path)
    assert [authority.vouches_for(read(who)) for who in (good, revoked, foreign)] == [True, True, False]
    (tmp_path / "ca.crl").write_bytes(signer.revoke(revoked))
    authority.reload()
    assert [authority.vouches_for(read(who)) for who in (good, revoked, foreign)] == [True, False, False]


@pytest.mark.parametrize("broken", [b"nonsense", Signer().revoke])
def test_files_that_cannot_be_used_trust_nobody(tmp_path: Path, broken: object) -> None:
    signer = Signer()
    (tmp_path / "server.ca").write_bytes(signer.certificate.public_bytes(PEM))
    good = signer.issue(tmp_path, "a")
    (tmp_path / "ca.crl").write_bytes(broken(signer.issue(tmp_path, "another")) if callable(broken) else b"nonsense")
    authority = Authority(tmp_path)
    assert authority.exists
    assert not authority.vouches_for(read(good))


async def test_over_the_wire(world: World) -> None:
    from chassis.store import Change
    from rows.control import SERVER_CONFIG, ServerConfig

    folder = world.directory / "run"
    signer = Signer()
    good, revoked, own = signer.issue(folder, "a"), signer.issue(folder, "b"), make_identity(folder, "own")
    (world.directory / "server.ca").write_bytes(signer.certificate.public_bytes(PEM))
    (world.directory / "ca.crl").write_bytes(signer.revoke(revoked))
    store, port = await writer_of(world), free_port()

    async def configure(**config: str) -> None:
        change = Change()
        change.put(
            SERVER_CONFIG, ServerConfig(config={"core.https_address": f"127.0.0.1:{port}", **config}), expect=None
        )
        await store.commit(change)
        await world.gateway.store.refresh()

    async def auth(who: Identity) -> str:
        shown = (await world.ask("GET", "/1.0", port=port, identity=who)).metadata
        return str(shown["auth"])

    await configure()
    await listening(port)
    assert [await auth(who) for who in (good, revoked, own)] == ["untrusted"] * 3
    await configure(**{"core.trust_ca_certificates": "true"})
    assert [await auth(who) for who in (good, revoked, own)] == ["trusted", "untrusted", "untrusted"]
    await configure()
    for who in (good, revoked, own):
        await trust(store, who)
    await world.gateway.store.refresh()
    assert [await auth(who) for who in (good, revoked, own)] == ["trusted", "untrusted", "untrusted"]
    await store.stop()
