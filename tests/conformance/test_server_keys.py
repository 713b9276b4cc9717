"""Every key of the server's configuration: a right value is kept and shown, a wrong one is refused in LXD's words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from services.control import keys
from tests.conformance.client import Client
from tests.conformance.servers import Server
from tests.conformance.tls import free_port

PORT = "127.0.0.1:{port}"  # a free one
INTEGER, BOOLEAN, RESOLVES = "invalid integer", "invalid boolean", 'Couldn\'t resolve "x"'
COMPRESSION = 'Invalid compression algorithm "x"'
VOTERS = "Value must be an odd number equal to or higher than 3"


@dataclass(frozen=True)
class Case:
    """A key. `right` None: LXD would have to reach something for it; `shown` when it is not shown as it was given."""

    key: str
    right: str | None
    wrong: str = ""
    reason: str = ""
    default: str = ""
    shown: Any = None


CASES = (
    Case("backups.compression_algorithm", "zstd", "x", COMPRESSION, default="gzip"),
    Case("candid.api.key", None),
    Case("candid.api.url", None),
    Case("candid.domains", "example.org"),
    Case("candid.expiry", "60", "x", INTEGER, default="3600"),
    Case("cluster.https_address", None, "x", RESOLVES),
    Case("cluster.images_minimal_replica", "-1", "0", "Invalid value for image replica count", default="3"),
    Case("cluster.join_token_expiry", "1d", "x", "Invalid expiry expression", default="3H"),
    Case("cluster.max_standby", "0", "6", "Value must be between 0 and 5", default="2"),
    Case("cluster.max_voters", "5", "4", VOTERS, default="3"),
    Case("core.bgp_address", None, "x", RESOLVES),
    Case(
        "core.bgp_asn", "65000", "-1", "Value isn't within valid range. Must be between 0 and 4294967294", default="0"
    ),
    Case("core.bgp_routerid", "192.0.2.1", "x", 'Not an IPv4 address "x"'),
    Case("core.debug_address", PORT, "x", RESOLVES),
    Case("core.dns_address", PORT, "x", RESOLVES),
    Case("core.https_address", PORT, "x", RESOLVES),
    Case("core.https_allowed_credentials", "yes", "x", BOOLEAN, default="false", shown="true"),
    Case("core.https_allowed_headers", "X-One"),
    Case("core.https_allowed_methods", "GET"),
    Case("core.https_allowed_origin", "*"),
    Case("core.https_trusted_proxy", "192.0.2.1"),
    Case("core.metrics_address", PORT, "1.5", 'Couldn\'t resolve "1.5"'),
    Case("core.metrics_authentication", "off", "x", BOOLEAN, default="true", shown="false"),
    Case("core.proxy_http", "http://192.0.2.1"),
    Case("core.proxy_https", "http://192.0.2.1"),
    Case("core.proxy_ignore_hosts", "192.0.2.1"),
    Case("core.remote_token_expiry", "1d", "x", "Invalid expiry expression"),
    Case("core.shutdown_timeout", "6", "1.5", INTEGER, default="5"),
    Case("core.trust_ca_certificates", "1", "2", BOOLEAN, default="false", shown="true"),
    Case("core.trust_password", "sekret", shown=True),
    Case("images.auto_update_cached", "false", "x", BOOLEAN, default="true"),
    Case("images.auto_update_interval", "0", "x", INTEGER, default="6"),
    Case("images.compression_algorithm", "xz", "x", COMPRESSION, default="gzip"),
    Case("images.default_architecture", "aarch64", "x", 'Invalid value "x" (not one of ['),
    Case("images.remote_cache_expiry", "5", "x", INTEGER, default="10"),
    Case("maas.api.key", "x"),
    Case("maas.api.url", None),
    Case("maas.machine", "x"),
    Case("network.ovn.integration_bridge", "br-x", default="br-int"),
    Case("network.ovn.northbound_connection", "tcp:192.0.2.1:6641", default="unix:/var/run/ovn/ovnnb_db.sock"),
    Case("rbac.agent.private_key", None),
    Case("rbac.agent.public_key", None),
    Case("rbac.agent.url", None),
    Case("rbac.agent.username", None),
    Case("rbac.api.expiry", None, "x", INTEGER, default="3600"),
    Case("rbac.api.key", None),
    Case("rbac.api.url", None),
    Case("rbac.expiry", None, "x", INTEGER, default="3600"),
    Case("storage.backups_volume", None),
    Case("storage.images_volume", None),
    Case("user.free", "anything at all"),
)
ONCE_TRUE = ("core.https_allowed_credentials", "core.trust_ca_certificates")
WAITS = {key.name: key.waits for key in keys.WAITING}


def named(case: Case) -> str:
    return case.key


def config_of(api: Client) -> dict[str, Any]:
    """What is set. A truth that was true once goes on to be shown as false in LXD."""
    found: dict[str, Any] = api.get("/1.0")["config"]
    return {key: value for key, value in found.items() if not (key in ONCE_TRUE and value == "false")}


@pytest.fixture
def clean(api: Client) -> Iterator[Client]:
    """The configuration is empty again after the test; a default is set by name because LXD takes "" for false."""
    yield api
    defaults = {case.key: case.default for case in CASES}
    api.patch("/1.0", {"config": {key: defaults.get(key, "") for key in config_of(api)}})
    assert config_of(api) == {}


UNSET_IS_FALSE = pytest.mark.differs("a truth that is unset counts as false, also where the default is true")


def test_the_table_has_every_key() -> None:
    declared = {key.name for key in keys.SERVER.keys if not key.wild}
    ours = {name for name in declared if name.startswith(("core.events_", "core.operations_"))}
    tested = {case.key for case in CASES} - {"user.free"} | {"cluster.offline_threshold"}
    assert tested == declared - ours


@pytest.mark.parametrize("case", [case for case in CASES if case.right is not None], ids=named)
def test_a_right_value_is_kept_and_shown_or_waits_for_its_machinery(clean: Client, server: Server, case: Case) -> None:
    assert case.right is not None
    value = case.right.format(port=free_port())
    answer = clean.request("PATCH", "/1.0", {"config": {case.key: value}})
    if case.key in WAITS and not server.is_lxd:
        assert (answer.status, answer.error) == (400, f"cannot set '{case.key}' to '{value}': {WAITS[case.key]}")
        assert case.key not in config_of(clean)
        return
    assert answer.status == 200, answer.body
    shown = value if case.shown is None else case.shown
    assert config_of(clean) == {case.key: shown}
    clean.patch("/1.0", {"config": {case.key: case.default}})
    assert config_of(clean) == {}


@pytest.mark.parametrize("case", [case for case in CASES if case.reason], ids=named)
def test_a_wrong_value_is_refused_and_says_why(clean: Client, case: Case) -> None:
    refusal = clean.refusal("PATCH", "/1.0", {"config": {"user.before": "1", case.key: case.wrong}})
    assert refusal.status == 400
    assert refusal.text.startswith(f"cannot set '{case.key}' to '{case.wrong}': {case.reason}")
    assert config_of(clean) == {}


@pytest.mark.parametrize("case", [case for case in CASES if case.default], ids=named)
def test_what_is_the_default_anyway_is_taken_and_not_shown(clean: Client, case: Case) -> None:
    clean.patch("/1.0", {"config": {case.key: case.default}})
    assert config_of(clean) == {}


@pytest.mark.parametrize(
    "key", ["core.https_allowed_credentials", pytest.param("core.metrics_authentication", marks=UNSET_IS_FALSE)]
)
def test_a_key_that_is_unset_has_its_default(clean: Client, server: Server, key: str) -> None:
    for verb, config in (("PATCH", {key: ""}), ("PUT", {})):
        clean.patch("/1.0", {"config": {key: "true" if key.endswith("credentials") else "false"}})
        clean.change(verb, "/1.0", {"config": config})
        assert config_of(clean) == {}


@pytest.mark.parametrize(("value", "reason"), [("x", INTEGER), ("10", "Value must be greater than '10'")])
def test_the_offline_threshold_is_checked(clean: Client, server: Server, value: str, reason: str) -> None:
    refusal = clean.refusal("PATCH", "/1.0", {"config": {"cluster.offline_threshold": value}})
    assert (refusal.status, refusal.text) == (400, f"cannot set 'cluster.offline_threshold' to '{value}': {reason}")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"bogus": "1"}, "cannot set 'bogus' to '1': unknown key"),
        ({"": "1"}, "cannot set '' to '1': unknown key"),
        ({"core.storage_buckets_address": ":1"}, "cannot set 'core.storage_buckets_address' to ':1': unknown key"),
        ({"storage.lvm_vg_name": ""}, "cannot set 'storage.lvm_vg_name' to '': unknown key"),
        ({"b.b": "1", "a.a": "2", "user.c": "3"}, "cannot set 'a.a' to '2': unknown key (and 1 more errors)"),
        ({"core.proxy_http": 5}, "cannot set 'core.proxy_http': invalid type float64"),
        ({"core.metrics_authentication": True}, "cannot set 'core.metrics_authentication': invalid type bool"),
        ({"user.a": ["x"]}, "cannot set 'user.a': invalid type slice"),
        ({"user.a": {"x": "y"}}, "cannot set 'user.a': invalid type map"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(clean: Client, config: dict[str, Any], text: str) -> None:
    refusal = clean.refusal("PATCH", "/1.0", {"config": config})
    assert (refusal.status, refusal.text) == (400, text)
    assert config_of(clean) == {}


@pytest.mark.parametrize(("given", "kind"), [([], "array"), ("x", "string")])
def test_a_configuration_that_is_no_object_is_refused(clean: Client, given: Any, kind: str) -> None:
    refusal = clean.refusal("PUT", "/1.0", {"config": given})
    type_ = "map[string]interface {}"
    text = f"json: cannot unmarshal {kind} into Go struct field ServerPut.config of type {type_}"
    assert (refusal.status, refusal.text) == (400, text)


@pytest.mark.differs("refuses the address and keeps it all the same")
@pytest.mark.parametrize("key", ["core.https_address", "core.metrics_address", "core.debug_address"])
def test_an_address_that_somebody_else_has_is_refused(clean: Client, server: Server, key: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refusal = clean.refusal("PATCH", "/1.0", {"config": {key: address}})
    assert refusal.status == 500
    assert refusal.text.endswith(f"listen tcp {address}: bind: address already in use")
    assert config_of(clean) == {}
