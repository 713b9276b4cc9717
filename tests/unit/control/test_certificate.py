"""Trust: by an administrator, by password, by token; what a restricted client may do with its own entry."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from chassis import errors
from chassis.calls import Call, Caller
from chassis.operation import OPERATION
from chassis.store import Change
from gen.nubibus.control.v1 import control_pb2
from tests.unit.control.conftest import ADMIN, World, collected

STRANGER = Call(caller=Caller(protocol="tls", address="192.0.2.7:4711", fingerprint="x"))


def certificate(name: str = "joe", *, days: int = 10, key: Any = None) -> str:
    """Base64 of the DER form of a self-signed certificate that is valid for some days (or was, if negative)."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) - timedelta(days=100)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .sign(key, hashes.SHA384())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


@pytest.fixture(autouse=True)
def _cheap_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.control.passwords.COST", {"n": 2, "r": 1, "p": 1})


async def create(world: World, call: Call = ADMIN, shown: str = "", **body: Any) -> Any:
    request = control_pb2.CreateRequest(body=json.dumps({"type": "client", **body}).encode(), client_certificate=shown)
    return await world.certificates.Create(request, call)


async def listed(world: World, call: Call = ADMIN) -> list[dict[str, Any]]:
    return list(await collected(world.certificates.List(control_pb2.PlainListRequest(recursion=1), call)))


async def token_of(world: World, **body: Any) -> tuple[str, str]:
    """A token as a client pastes it, and the id of its operation."""
    answer = await create(world, token=True, **body)
    metadata = json.loads(answer.accepted.operation)["metadata"]
    fields = {name: metadata[name] for name in ("secret", "fingerprint", "addresses")}
    return base64.b64encode(json.dumps({**fields, "client_name": "x"}).encode()).decode(), answer.accepted.id


async def listening(world: World, **config: str) -> None:
    await world.configure({"core.https_address": "127.0.0.1:0", **{k.replace("__", "."): v for k, v in config.items()}})


async def test_an_administrator_adds_a_certificate(world: World) -> None:
    answer = await create(world, certificate=certificate(), restricted=True, projects=["default"])
    (found,) = await listed(world)
    assert answer.document.location == f"/1.0/certificates/{found['fingerprint']}"
    assert (found["name"], found["type"], found["restricted"], found["projects"]) == (
        "joe",
        "client",
        True,
        ["default"],
    )
    assert found["certificate"].startswith("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(errors.Conflict, match="already in trust store"):
        await create(world, certificate=base64.b64encode(_der(found["certificate"])).decode())
    assert [event["action"] for event in world.events()] == ["certificate-created"]


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ({"certificate": "xxx"}, errors.BadRequest, "illegal base64|cannot be read"),
        ({"certificate": "%%%"}, errors.BadRequest, "illegal base64 data at input byte 0"),
        ({"certificate": base64.b64encode(b"\x30\x03abc").decode()}, errors.BadRequest, "no X.509 certificate"),
        ({}, errors.BadRequest, "Client is already trusted"),
        ({"certificate": "eA==", "type": "friend"}, errors.BadRequest, "Invalid certificate type"),
        ({"certificate": "eA==", "projects": ["nope"]}, errors.NotFound, "Project not found"),
        ({"certificate": "eA==", "projects": [1]}, errors.BadRequest, "cannot unmarshal number"),
        ({"certificate": "eA==", "token": True}, errors.BadRequest, "Can't use certificate if token is requested"),
        ({"token": True}, errors.BadRequest, "server isn't listening on network"),
        ({"token": True, "type": "metrics"}, errors.BadRequest, "only be issued for client certificates"),
    ],
)
async def test_what_an_administrator_may_not_add(world: World, body: dict[str, Any], kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        await create(world, **body)
    assert await listed(world) == []


async def test_certificates_that_are_expired_or_weak_are_refused(world: World) -> None:
    with pytest.raises(errors.BadRequest, match="is expired"):
        await create(world, certificate=certificate(days=-1))
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(errors.BadRequest, match="RSA key of 1024 bits, at least 2048"):
        await create(world, certificate=certificate(key=weak))


async def test_a_stranger_with_the_password_is_trusted_under_its_address(world: World) -> None:
    await world.configure({"core.trust_password": "sekret"})
    await create(world, STRANGER, certificate(), password="sekret")
    (found,) = await listed(world)
    assert found["name"] == "192.0.2.7"


@pytest.mark.parametrize("body", [{}, {"password": ""}, {"password": "bad"}, {"password": "sekret", "type": "metrics"}])
async def test_a_stranger_without_it_is_told_nothing(world: World, body: dict[str, Any]) -> None:
    await world.configure({"core.trust_password": "sekret"})
    with pytest.raises(errors.Forbidden, match=r"^not authorized$"):
        await create(world, STRANGER, certificate(), **body)
    assert await listed(world) == []


async def test_no_password_is_no_empty_password(world: World) -> None:
    with pytest.raises(errors.Forbidden):
        await create(world, STRANGER, certificate(), password="")


async def test_a_token_admits_one_client_once_and_on_its_own_terms(world: World) -> None:
    await listening(world)
    token, operation = await token_of(world, name="tok", restricted=True, projects=["default"])
    await create(world, STRANGER, certificate("one"), password=token, restricted=False, projects=[], name="evil")
    (found,) = await listed(world)
    assert (found["name"], found["restricted"], found["projects"]) == ("tok", True, ["default"])
    assert (await world.operations.wait(operation)).status_code == 401
    with pytest.raises(errors.Forbidden):
        await create(world, STRANGER, certificate("two"), password=token)
    assert len(await listed(world)) == 1


async def test_the_secret_alone_or_a_wrong_one_is_no_token(world: World) -> None:
    await listening(world)
    answer = await create(world, token=True)
    secret = json.loads(answer.accepted.operation)["metadata"]["secret"]
    wrong = base64.b64encode(json.dumps({"secret": "x", "fingerprint": "y", "addresses": ["z"]}).encode()).decode()
    for password in (secret, wrong):
        with pytest.raises(errors.Forbidden):
            await create(world, STRANGER, certificate(), password=password)


async def test_a_token_expires(world: World) -> None:
    await listening(world, core__remote_token_expiry="1H")
    token, operation = await token_of(world)
    row = world.operations.one(operation)
    assert row.value.metadata["expiresAt"] > datetime.now(UTC).isoformat()
    past = {**row.value.metadata, "expiresAt": "2020-01-01T00:00:00Z"}
    aged = msgspec.structs.replace(row.value, metadata=past)
    await world.store.commit(Change().put(OPERATION, aged, expect=row.revision))
    with pytest.raises(errors.Forbidden, match="expired"):
        await create(world, STRANGER, certificate(), password=token)


async def test_a_cancelled_token_admits_nobody(world: World) -> None:
    await listening(world)
    token, operation = await token_of(world)
    await world.operations.cancel(operation)
    with pytest.raises(errors.Forbidden):
        await create(world, STRANGER, certificate(), password=token)


async def test_entries_are_found_by_the_beginning_of_their_fingerprint(world: World) -> None:
    await create(world, certificate=certificate())
    (found,) = await listed(world)
    request = control_pb2.CertificateRequest(fingerprint=found["fingerprint"][:12])
    assert json.loads((await world.certificates.Get(request, ADMIN)).json) == found
    for prefix in ("zz", ""):
        with pytest.raises(errors.NotFound, match="Certificate not found"):
            await world.certificates.Get(control_pb2.CertificateRequest(fingerprint=prefix), ADMIN)


async def change(world: World, verb: str, fingerprint: str, call: Call = ADMIN, **body: Any) -> None:
    request = control_pb2.PutCertificateRequest(fingerprint=fingerprint, body=json.dumps(body).encode())
    await getattr(world.certificates, verb)(request, call)


async def test_entries_change_but_not_their_type(world: World) -> None:
    await create(world, certificate=certificate())
    fingerprint = (await listed(world))[0]["fingerprint"]
    await change(world, "Patch", fingerprint, name="new", restricted=True, projects=["default"])
    (found,) = await listed(world)
    assert (found["name"], found["restricted"], found["projects"]) == ("new", True, ["default"])
    with pytest.raises(errors.Forbidden, match="type cannot be changed"):
        await change(world, "Put", fingerprint, name="x")
    with pytest.raises(errors.NotFound, match="Project not found"):
        await change(world, "Patch", fingerprint, projects=["nope"])


async def test_a_restricted_client_renews_its_certificate_and_nothing_else(world: World) -> None:
    await create(world, certificate=certificate("own"), restricted=True, projects=["default"], name="own")
    await create(world, certificate=certificate("other"), name="other")
    own = next(one for one in await listed(world) if one["name"] == "own")
    other = next(one for one in await listed(world) if one["name"] == "other")
    me = Call(caller=Caller(protocol="tls", trusted=True, fingerprint=own["fingerprint"], projects=("default",)))
    assert [one["name"] for one in await listed(world, me)] == ["own"]
    for verb, body in (
        ("Patch", {"restricted": False}),
        ("Patch", {"projects": []}),
        ("Put", {"type": "client", "name": "x"}),
    ):
        with pytest.raises(errors.Forbidden, match="Only the certificate can be changed"):
            await change(world, verb, own["fingerprint"], me, **body)
    with pytest.raises(errors.NotFound):
        await change(world, "Patch", other["fingerprint"], me, certificate=certificate())
    with pytest.raises(errors.Forbidden):
        await world.certificates.Delete(control_pb2.CertificateRequest(fingerprint=own["fingerprint"]), me)
    with pytest.raises(errors.Forbidden):
        await create(world, me, certificate=certificate())
    await change(world, "Patch", own["fingerprint"], me, certificate=certificate("renewed"))
    renewed = next(one for one in await listed(world) if one["name"] == "own")
    assert renewed["fingerprint"] != own["fingerprint"]
    assert (renewed["restricted"], renewed["projects"]) == (True, ["default"])


async def test_a_removed_certificate_is_gone(world: World) -> None:
    await create(world, certificate=certificate())
    fingerprint = (await listed(world))[0]["fingerprint"]
    await world.certificates.Delete(control_pb2.CertificateRequest(fingerprint=fingerprint), ADMIN)
    assert await listed(world) == []
