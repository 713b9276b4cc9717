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


async def test_what_changes_nothing_is_told_and_leaves_the_row(world: World) -> None:
    await world.configure({"user.a": "1"})
    row = world.configuration.rows.one("cluster")
    await world.configure({"user.a": "1"})
    await put(world, {"user.a": "1"})
    assert world.configuration.rows.one("cluster") == row
    assert [event["action"] for event in world.events()] == ["config-updated"] * 3


async def test_values_are_kept_in_one_spelling_and_defaults_not_at_all(world: World) -> None:
    await world.configure({"core.https_allowed_credentials": "on", "core.metrics_authentication": "no"})
    kept = {"core.https_allowed_credentials": "true", "core.metrics_authentication": "false"}
    assert world.configuration.texts == kept
    await world.configure({"core.https_allowed_credentials": "0", "core.metrics_authentication": "Yes"})
    assert world.configuration.texts == {}
    await world.configure({"core.shutdown_timeout": "5", "images.auto_update_cached": "true"})
    assert world.configuration.texts == {}


async def test_several_mistakes_are_counted(world: World) -> None:
    with pytest.raises(errors.BadRequest) as raised:
        await world.configure({"z.z": "1", "b.b": "1", "user.a": "1", "core.metrics_address": "0x10"})
    assert raised.value.text == "cannot set 'b.b' to '1': unknown key (and 2 more errors)"


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
        port = taken.getsockname()[1]
        for wrong, reason in (
            (f"127.0.0.1:{port}", f"listen tcp 127.0.0.1:{port}: bind: address already in use"),
            ("192.0.2.1:8443", "listen tcp 192.0.2.1:8443: bind: cannot assign requested address"),
            (":nosuchservice", "listen tcp: address tcp/nosuchservice: unknown port"),
            ("127.0.0.1:99999", "listen tcp: address 99999: invalid port"),
        ):
            for key, sentence in (
                ("core.https_address", f'Cannot listen on network HTTPS socket "{wrong}": {reason}'),
                ("core.metrics_address", f"Cannot listen on http socket: Bind network address: {reason}"),
                ("core.debug_address", f"Cannot listen on http socket: {reason}"),
            ):
                with pytest.raises(errors.Internal) as raised:
                    await world.configure({key: wrong})
                assert raised.value.text == sentence
    assert world.configuration.texts == {}


async def test_an_address_may_widen_and_narrow_on_its_port_but_no_other_key_gets_it(world: World) -> None:
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        await world.configure({"core.https_address": f"127.0.0.1:{port}"})
        ours.listen()  # as the gateway does now
        await world.configure({"core.https_address": f":{port}"})
        await world.configure({"core.https_address": f"127.0.0.1:{port}"})
        with pytest.raises(errors.Internal, match="address already in use"):
            await world.configure({"core.metrics_address": f":{port}"})
        await world.configure({"core.https_address": "", "core.metrics_address": f"127.0.0.1:{port}"})


async def test_a_host_must_resolve(world: World) -> None:
    await world.configure({"core.dns_address": "localhost:5353"})
    for host in ("nosuchhost.invalid", "5", "1.5", "0x10"):
        with pytest.raises(errors.BadRequest) as raised:
            await world.configure({"core.dns_address": f"{host}:53"})
        assert raised.value.text == f"cannot set 'core.dns_address' to '{host}:53': Couldn't resolve \"{host}\""


def test_addresses_for_clients() -> None:
    assert addresses("") == []
    assert addresses("192.0.2.1:9") == ["192.0.2.1:9"]
    assert addresses("[2001:db8::1]") == ["[2001:db8::1]:8443"]
    assert addresses("localhost:9") == ["localhost:9"]
    found = addresses(":8443")
    assert all(one.endswith(":8443") for one in found)
    assert not any(one.startswith(("127.", "[::1]")) for one in found)
    assert not any(one.startswith("[") for one in addresses("0.0.0.0:8443"))


def test_the_distribution_is_read_from_os_release(tmp_path: Any) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('NAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n')
    assert environment.system(tmp_path) == ("Debian GNU/Linux", "12")
