"""The server's configuration: LXD's sentences, secrets, PUT against PATCH; and what GET /1.0 tells whom."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from chassis import errors, rpc
from chassis.calls import Call, Caller
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.storage.v1 import pool_pb2
from services.control import environment, keys, passwords
from services.control.server import addresses
from tests.unit.control.conftest import ADMIN, World


@pytest.fixture(autouse=True)
def _storage(monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_arguments: Any, **_options: Any) -> pool_pb2.Drivers:
        return pool_pb2.Drivers(drivers=[pool_pb2.Driver(name="dir", version="1")])

    monkeypatch.setattr(rpc, "call", call)


async def get(world: World, call: Call = ADMIN) -> Any:
    return json.loads((await world.server.Get(control_pb2.ServerRequest(project="p"), call)).json)


async def put(world: World, config: dict[str, Any], if_match: str = "") -> None:
    request = control_pb2.PutServerRequest(body=json.dumps({"config": config}).encode(), if_match=if_match)
    await world.server.Put(request, ADMIN)


async def test_a_guest_is_told_nothing_and_a_restricted_client_no_configuration(world: World) -> None:
    await world.configure({"user.secret": "x"})
    assert await get(world, Call(caller=Caller(protocol="tls"))) == {}
    restricted = await get(world, Call(caller=Caller(protocol="tls", trusted=True, projects=())))
    assert restricted["config"] is None
    assert (await get(world))["config"] == {"user.secret": "x"}


async def test_the_environment_is_this_machine(world: World) -> None:
    found = (await get(world))["environment"]
    assert found["project"] == "p"
    assert found["server_name"] == socket.gethostname()
    assert found["kernel"] == "Linux"
    assert found["storage_supported_drivers"] == [{"Name": "dir", "Version": "1", "Remote": False}]
    assert len(found["certificate_fingerprint"]) == 64
    assert set(found["kernel_features"].values()) <= {"true", "false"}
    assert set(found["kernel_features"]) == set(environment.KERNEL_FEATURES)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("foo.bar", "bar", "cannot set 'foo.bar' to 'bar': unknown key"),
        ("core.shutdown_timeout", "abc", "cannot set 'core.shutdown_timeout' to 'abc': invalid integer"),
        ("core.shutdown_timeout", 8, "cannot set 'core.shutdown_timeout': invalid type float64"),
        ("core.https_allowed_credentials", "x", "cannot set 'core.https_allowed_credentials' to 'x': invalid boolean"),
        ("core.remote_token_expiry", "x", "cannot set 'core.remote_token_expiry' to 'x': Invalid expiry expression"),
        ("images.compression_algorithm", "foo", "to 'foo': Invalid compression algorithm \"foo\""),
        ("core.metrics_address", "x:80", "cannot set 'core.metrics_address' to 'x:80': Couldn't resolve \"x\""),
        ("core.bgp_routerid", "x", "cannot set 'core.bgp_routerid' to 'x': Not an IPv4 address \"x\""),
        ("cluster.max_voters", "2", "Value must be an odd number equal to or higher than 3"),
        ("cluster.max_standby", "9", "Value must be between 0 and 5"),
        ("cluster.offline_threshold", "5", "Value must be greater than '10'"),
        ("storage.zfs_pool_name", "x", "unknown key"),
        ("maas.api.url", "https://x", "MAAS is not supported yet"),
    ],
)
async def test_what_cannot_be_set(world: World, key: str, value: Any, text: str) -> None:
    with pytest.raises(errors.BadRequest) as raised:
        await world.configure({"user.a": "1", key: value})
    assert text in raised.value.text
    assert world.configuration.texts == {}


async def test_every_key_of_lxd_is_known() -> None:
    own = {keys.EVENTS_RETENTION, keys.EVENTS_LIMIT, keys.EVENTS_SIZE, keys.OPERATIONS_RETENTION}
    assert len([key for key in keys.SERVER.keys if not key.wild and key not in own]) == 51
    for key in keys.WAITING:
        keys.check(key.name, "")  # removing what cannot be set is no error


async def test_patch_lays_over_and_put_replaces(world: World) -> None:
    await world.configure({"user.a": "1", "user.b": "2"})
    await world.configure({"user.b": "", "user.c": "3"})
    assert world.configuration.texts == {"user.a": "1", "user.c": "3"}
    await put(world, {"user.c": "4"})
    assert world.configuration.texts == {"user.c": "4"}
    assert [event["action"] for event in world.events()] == ["config-updated"] * 3


async def test_what_changes_nothing_writes_nothing(world: World) -> None:
    await world.configure({"user.a": "1"})
    written = world.log.appends
    await world.configure({"user.a": "1"})
    await put(world, {"user.a": "1"})
    assert world.log.appends == written


async def test_a_secret_is_stored_hashed_shown_as_true_and_kept_when_it_comes_back_so(world: World) -> None:
    await world.configure({"core.trust_password": "sekret"})
    stored = world.configuration.texts["core.trust_password"]
    assert "sekret" not in stored
    assert passwords.matches("sekret", stored)
    assert not passwords.matches("Sekret", stored)
    assert (await get(world))["config"] == {"core.trust_password": True}
    await put(world, {"core.trust_password": True, "user.a": "1"})
    assert world.configuration.texts["core.trust_password"] == stored
    await put(world, {})
    assert world.configuration.texts == {}


async def test_if_match_guards_the_configuration(world: World) -> None:
    etag = (await world.server.Get(control_pb2.ServerRequest(), ADMIN)).etag
    await put(world, {"user.a": "1"}, etag)
    with pytest.raises(errors.PreconditionFailed):
        await put(world, {"user.a": "2"}, etag)


async def test_an_address_that_cannot_be_listened_on_is_refused(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for wrong in (address, "192.0.2.1:8443", ":nosuchservice"):
            with pytest.raises(errors.Internal, match=f'Cannot listen on network HTTPS socket "{wrong}"'):
                await world.configure({"core.https_address": wrong})
    assert world.configuration.texts == {}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 8443),
        ("192.0.2.1:9", "192.0.2.1", 9),
        (":443", "", 443),
        ("*:443", "", 443),
        ("[::1]:9", "::1", 9),
        ("[::1]", "::1", 8443),
        ("::1", "::1", 8443),
        ("127.0.0.1:https", "127.0.0.1", 443),
    ],
)
def test_listening_addresses(text: str, host: str, port: int) -> None:
    assert keys.split_address(text) == (host, port)


def test_addresses_for_clients() -> None:
    assert addresses("") == []
    assert addresses("192.0.2.1:9") == ["192.0.2.1:9"]
    assert addresses("[2001:db8::1]") == ["[2001:db8::1]:8443"]
    found = addresses(":8443")
    assert all(one.endswith(":8443") for one in found)
    assert not any(one.startswith(("127.", "[::1]")) for one in found)
    assert not any(one.startswith("[") for one in addresses("0.0.0.0:8443"))


def test_the_distribution_is_read_from_os_release(tmp_path: Any) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n')
    assert environment.system(tmp_path) == ("Debian GNU/Linux", "12")
