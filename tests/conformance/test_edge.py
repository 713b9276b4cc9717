"""The edge over HTTPS: proxies that are believed, authorities that vouch for clients, profiles of the server itself."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance.client import Client, EventListener, eventually
from tests.conformance.servers import Server
from tests.conformance.tls import Identity, Remote, free_port, open_at
from tests.conformance.world import World, unique

PEM = serialization.Encoding.PEM


@pytest.fixture
def port(https_port: int) -> int:
    return https_port


@pytest.fixture
def identity(tmp_path: Path, api: Client) -> Iterator[Identity]:
    """A trusted client."""
    made = Identity.make(tmp_path, unique("client"))
    api.post("/1.0/certificates", {"type": "client", "certificate": made.base64})
    yield made
    api.request("DELETE", f"/1.0/certificates/{made.fingerprint}")


def behind(head: bytes, port: int, who: Identity, request: bytes) -> bytes:
    """What a request is answered whose connection begins with a PROXY header."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(who.file)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.sendall(head)
        with context.wrap_socket(sock) as secure:
            secure.sendall(request)
            found = b""
            while piece := secure.recv(65536):
                found += piece
            return found


def creation_of(name: str) -> bytes:
    body = json.dumps({"name": name}).encode()
    head = f"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.extension("server_trusted_proxy")
def test_a_trusted_proxy_tells_whose_request_it_is(api: Client, port: int, identity: Identity, world: World) -> None:
    header = b"PROXY TCP4 198.51.100.99 127.0.0.1 5555 8443\r\n"
    first, second = unique("proxied"), unique("direct")
    for name in (first, second):
        world.finally_do(partial(world.gone, f"/1.0/profiles/{name}"))
    with pytest.raises(OSError):  # nobody is believed yet: the header is no TLS
        behind(header, port, identity, creation_of(first))
    api.patch("/1.0", {"config": {"core.https_trusted_proxy": "127.0.0.1"}})
    try:
        with api.events() as events:
            assert b" 201 " in behind(header, port, identity, creation_of(first)).split(b"\r\n")[0]
            assert b" 201 " in behind(b"", port, identity, creation_of(second)).split(b"\r\n")[0]
            told = {name: requestor_of(events, name) for name in (first, second)}
    finally:
        api.patch("/1.0", {"config": {"core.https_trusted_proxy": ""}})
    assert told[first]["address"] == "198.51.100.99:5555"
    assert told[second]["address"].startswith("127.0.0.1:")


def requestor_of(events: EventListener, profile: str) -> dict[str, Any]:
    source = f"/1.0/profiles/{profile}"
    event = events.wait_for(action="profile-created", source=source)
    return dict(event["metadata"]["requestor"])


def debug(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.extension("pprof_http")
def test_profiles_are_served_while_the_key_is_set(api: Client) -> None:
    number = free_port()
    refused = api.request("PATCH", "/1.0", {"config": {"core.debug_address": "nope:xx"}})
    assert refused.status == 400
    api.patch("/1.0", {"config": {"core.debug_address": f"127.0.0.1:{number}"}})
    try:
        eventually(lambda: open_at(number))
        status, text = debug(number, "/debug/pprof/")
        assert status == 200
        assert "goroutine" in text
        status, text = debug(number, "/debug/pprof/goroutine?debug=1")
        assert status == 200
        assert len(text) > 100
        assert debug(number, "/")[0] == 404
    finally:
        api.patch("/1.0", {"config": {"core.debug_address": ""}})
    eventually(lambda: not open_at(number))


@dataclass
class Authority:
    """Signs and revokes the certificates of clients."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @staticmethod
    def make() -> Authority:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        return Authority(ec.generate_private_key(ec.SECP384R1()), name)

    def certificate(self, name: x509.Name, key: Any, *, authority: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        builder = builder.not_valid_after(now + timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        return builder.sign(self.key, hashes.SHA384())

    def own(self) -> bytes:
        return self.certificate(self.name, self.key.public_key(), authority=True).public_bytes(PEM)

    def issue(self, folder: Path, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP384R1())
        made = self.certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file = folder / f"{name}.pem"
        file.write_bytes(made.public_bytes(PEM) + private)
        der = made.public_bytes(serialization.Encoding.DER)
        return Identity(file, made.public_bytes(PEM).decode(), "", sha256(der).hexdigest())

    def revoke(self, who: Identity) -> bytes:
        now = datetime.now(UTC)
        serial = x509.load_pem_x509_certificate(who.pem.encode()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now)
        builder = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(PEM)


@pytest.fixture
def authority(server: Server, port: int) -> Iterator[Authority]:
    """PKI mode, for one test. Real LXD reads the files at its start only."""
    if server.is_lxd:
        pytest.skip("LXD reads server.ca at its start")
    made = Authority.make()
    place(server.directory / "server.ca", made.own())
    yield made
    for name in ("server.ca", "ca.crl"):
        (server.directory / name).unlink(missing_ok=True)


def place(file: Path, data: bytes) -> None:
    """Whole or not at all: the server may look at any moment."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_bytes(data)
    fresh.chmod(0o644)
    fresh.rename(file)


def auth(port: int, who: Identity) -> str:
    return str(Remote(port, who).get("/1.0")["auth"])


@pytest.mark.extension("auth_pki")
@pytest.mark.extension("trust_ca_certificates")
def test_an_authority_vouches_for_clients_and_revokes_them(
    server: Server, api: Client, port: int, identity: Identity, authority: Authority, tmp_path: Path
) -> None:
    good, bad = authority.issue(tmp_path, "good"), authority.issue(tmp_path, "bad")
    eventually(lambda: auth(port, identity) == "untrusted")  # trusted by an entry, but signed by nobody
    assert auth(port, good) == "untrusted"
    assert Remote(port, good).request("GET", "/1.0/profiles").status == 403
    assert api.request("PATCH", "/1.0", {"config": {"core.trust_ca_certificates": "maybe"}}).status == 400
    api.patch("/1.0", {"config": {"core.trust_ca_certificates": "true"}})
    try:
        eventually(lambda: auth(port, good) == "trusted")
        assert auth(port, bad) == "trusted"
        assert Remote(port, good).request("GET", "/1.0/profiles").status == 200
        assert f"/1.0/certificates/{good.fingerprint}" not in api.get("/1.0/certificates")
        place(server.directory / "ca.crl", authority.revoke(bad))
        eventually(lambda: auth(port, bad) == "untrusted")
        assert auth(port, good) == "trusted"
        assert auth(port, identity) == "untrusted"
    finally:
        api.patch("/1.0", {"config": {"core.trust_ca_certificates": ""}})
    (server.directory / "server.ca").unlink()
    eventually(lambda: auth(port, identity) == "trusted")
