"""Bytes that no honest client sends: requests to be read in two ways, heads without end, clients that dawdle, bad certificates."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.oid import NameOID

from tests.conformance.client import DEADLINE, Client
from tests.conformance.entities import ENTITIES, Entity
from tests.conformance.servers import Server
from tests.conformance.tls import Identity, Remote
from tests.conformance.world import World, unique

POST = b"POST /1.0/profiles HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /1.0/projects HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
EMPTY = b"2\r\n{}\r\n0\r\n\r\n"  # a chunked body


def connected(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(str(server.socket))
    return sock


def answers(server: Server, sent: bytes) -> list[int]:
    """The statuses of all answers on a connection that got these bytes, until the server ends it."""
    with closing(connected(server)) as sock:
        found = b""
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(sent)
        with suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                found += piece
    return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d{3})", found)]


TWO_WAYS = {
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 90\r\n\r\n{}",
    "a length below zero": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length beyond numbers": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 2\r\n\r\n{}",
    "two codings": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + EMPTY,
    "a coding behind a control character": POST + b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 2\r\n\r\n{}",
    "a size that is none": POST + CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a size beyond numbers": POST + CHUNKED + b"\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "a NUL in a value": GET + b"X-A: a\x00b\r\n\r\n",
    "a CR in a value": GET + b"X-A: a\rX-B: b\r\n\r\n",
    "no host": b"GET /1.0/projects HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": GET + b"Host: y\r\nConnection: close\r\n\r\n",
    "a space in the path": b"GET /1.0/pro jects HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x00\xff\x00\r\n\r\n",
    "a version of the future": b"GET /1.0/projects HTTP/9.9\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("what", TWO_WAYS)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_done(
    server: Server, world: World, what: str
) -> None:
    victim = world.profile()
    hidden = f"DELETE /1.0/profiles/{victim} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    statuses = answers(server, TWO_WAYS[what] + hidden)
    assert statuses[:1] in ([400], [501], [505])
    assert len(statuses) == 1
    assert world.api.get(f"/1.0/profiles/{victim}")["name"] == victim


@pytest.mark.differs("5.0.2 takes them")
@pytest.mark.parametrize(
    "sent",
    [
        POST + CHUNKED + b"Content-Length: 90\r\n\r\n" + EMPTY,
        GET + b"X-A: 1\r\n folded\r\n\r\n",
        b"GET /1.0/projects HTTP/1.1\nHost: x\n\n",
        GET + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["coding and length", "a folded header", "bare line ends", "the same length twice"],
)
def test_what_proxies_read_differently_is_refused(server: Server, sent: bytes) -> None:
    assert answers(server, sent + GET + b"Connection: close\r\n\r\n") == [400]


def test_a_head_without_end_is_refused(server: Server, api: Client) -> None:
    assert answers(server, GET + b"X-A: " + b"a" * (3 << 20)) == [431]
    assert answers(server, GET + b"X-A: a\r\n" * 400_000) == [431]
    assert api.get("/1.0")["api_version"] == "1.0"


def test_names_with_escapes_stay_names(api: Client) -> None:
    for name in ("a%00b", "a%ff", "a%0d%0aX-Injected:1", "..%2f..", "%2e%2e", "a%2fb"):
        answer = api.request("GET", f"/1.0/profiles/{name}")
        assert answer.status in (400, 404), name
        assert "x-injected" not in answer.headers


def test_clients_that_dawdle_hold_up_nobody(server: Server, api: Client) -> None:
    """Half of them never end their head, half of them never send the body."""
    with ExitStack() as stack:
        for number in range(200):
            sock = stack.enter_context(closing(connected(server)))
            sock.sendall(GET + b"X-Slow: " if number % 2 else POST + b"Content-Length: 1000\r\n\r\n{")
        for _ in range(20):
            assert api.request("GET", "/1.0/projects", timeout=30).status == 200
        name = unique("p")
        assert api.request("POST", "/1.0/profiles", {"name": name}, timeout=30).status == 201
        api.delete(f"/1.0/profiles/{name}")


@pytest.mark.parametrize(
    "filter",
    [
        "name eq " + "a" * 200_000,
        " and ".join(["name eq a"] * 10_000),
        "not " * 10_000,
        "name eq (((((a*)*)*)*)*)*b",
        "name eq (a|aa)+$",
        f"{'config.' * 500}a eq b",
        f"name eq {'(' * 2000}a{')' * 2000}",
    ],
    ids=["long", "many clauses", "not without end", "nested stars", "ambiguous", "deep", "nested groups"],
)
def test_a_filter_takes_its_time_but_no_more(world: World, filter: str) -> None:
    """Against a name that makes a matcher which backtracks take centuries."""
    world.profile(name=f"{unique('aaaa')}-{'a' * 40}")
    answer = world.api.request("GET", f"/1.0/instances?filter={quote(filter)}", timeout=30)
    assert answer.status in (200, 400, 500)
    answer = world.api.request("GET", f"/1.0/profiles?recursion=1&filter={quote(filter)}", timeout=30)
    assert answer.status in (200, 400, 500)


FIXED = {"name": "another", "used_by": ["/1.0/x"], "created_at": "2001-01-01T00:00:00Z", "status": "Broken", "managed": False,
         "size": 1, "fingerprint": "00", "location": "elsewhere", "locations": ["elsewhere"], "driver": "zfs",
         "content_type": "block", "type": "custom", "listen_address": "192.0.2.1", "target": ""}  # fmt: skip


@pytest.mark.parametrize("entity", ENTITIES, ids=lambda entity: entity.name)
def test_a_patch_of_what_cannot_be_changed_changes_nothing(server: Server, world: World, entity: Entity) -> None:
    """LXD ignores such fields, or refuses them."""
    if server.is_lxd and entity.name == "alias":
        pytest.skip("5.0.2 waits for itself in PATCH of an alias")
    made = entity.make(world)
    before = world.api.get(made.path)
    fields = {key: value for key, value in FIXED.items() if key in before and key not in entity.change}
    if entity.name == "alias":
        del fields["target"]  # that is what an alias is for
    assert fields
    answer = world.api.request("PATCH", made.path, fields)
    if answer.status == 202:
        world.api.finished(answer.operation)
    assert answer.status in (200, 202, 400, 403), answer.body
    after = world.api.get(made.path)
    assert {key: after[key] for key in fields} == {key: before[key] for key in fields}


def signed(key: Any, *, since: int = -1, until: int = 1) -> str:
    """Base64 of a self-signed certificate that is valid from and to so many days from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, unique("bad"))])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(days=since)).not_valid_after(now + timedelta(days=until))
    made = builder.sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


def curve() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def a_key() -> str:
    der = curve().private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return base64.b64encode(der).decode()


def is_trusted(api: Client, text: str) -> bool:
    """Whether there is an entry of what a text is the base64 of."""
    fingerprint = hashlib.sha256(base64.b64decode(text)).hexdigest()
    return f"/1.0/certificates/{fingerprint}" in api.get("/1.0/certificates")


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: signed(curve(), since=-3, until=-1), 400),
        (lambda: signed(curve(), since=1, until=3), 400),
        (lambda: a_key(), 400),
        (lambda: base64.b64encode(b"hello").decode(), 400),
        (lambda: "%%%", 400),
        (lambda: signed(curve())[:-40], 400),
    ],
    ids=["expired", "not yet valid", "a key", "a text", "no base64", "cut off"],
)
def test_a_certificate_that_is_none_is_not_trusted(api: Client, make: Any, status: int) -> None:
    text = make()
    refusal = api.refusal("POST", "/1.0/certificates", {"type": "client", "certificate": text})
    assert refusal.status == status, refusal.text
    assert not is_trusted(api, text)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 1024), id="RSA of 1024 bits"),
        pytest.param(lambda: dsa.generate_private_key(1024), id="DSA", marks=pytest.mark.differs("5.0.2 takes DSA")),
    ],
)
def test_a_certificate_with_a_weak_key_is_not_trusted(api: Client, key: Any) -> None:
    text = signed(key())
    refusal = api.refusal("POST", "/1.0/certificates", {"type": "client", "certificate": text})
    assert refusal.status == 400
    assert not is_trusted(api, text)


@pytest.mark.parametrize("type_", ["", "friend", "Client", 5])
def test_a_type_that_there_is_not(api: Client, tmp_path: Path, type_: Any) -> None:
    who = Identity.make(tmp_path, unique("who"))
    refusal = api.refusal("POST", "/1.0/certificates", {"type": type_, "certificate": who.base64})
    assert refusal.status == 400
    assert f"/1.0/certificates/{who.fingerprint}" not in api.get("/1.0/certificates")


@pytest.mark.extension("metrics")
def test_a_certificate_for_metrics_is_for_nothing_else(api: Client, https_port: int, tmp_path: Path) -> None:
    who = Identity.make(tmp_path, unique("prom"))
    api.post("/1.0/certificates", {"type": "metrics", "certificate": who.base64})
    try:
        remote = Remote(https_port, who)
        assert remote.request("GET", "/1.0/metrics").status == 200
        for verb, path in (
            ("GET", "/1.0/instances"),
            ("GET", "/1.0/certificates"),
            ("GET", "/1.0/operations"),
            ("POST", "/1.0/profiles"),
            ("PATCH", f"/1.0/certificates/{who.fingerprint}"),
            ("DELETE", f"/1.0/certificates/{who.fingerprint}"),
        ):
            assert remote.request(verb, path, None if verb == "GET" else {}).status == 403, f"{verb} {path}"
    finally:
        api.request("DELETE", f"/1.0/certificates/{who.fingerprint}")
