"""The server: what it tells of itself and its machine, its configuration, its warnings, its hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client, eventually


@pytest.fixture
def clean(api: Client) -> Iterator[Client]:
    """The keys that a test of configuration sets are removed after it."""
    yield api
    left = api.get("/1.0")["config"]
    api.patch(
        "/1.0",
        {"config": {key: "" for key in left if key.startswith(("user.", "core.https_allowed", "core.shutdown"))}},
    )


@pytest.fixture(scope="module")
def environment(api: Client) -> dict[str, Any]:
    return dict(api.get("/1.0")["environment"])


@pytest.mark.extension("api_os")
def test_the_operating_system_is_what_os_release_says(environment: dict[str, Any]) -> None:
    lines = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines())
    release = {name: value.strip('"') for name, _, value in lines}
    assert (environment["os_name"], environment["os_version"]) == (release["NAME"], release["VERSION_ID"])


@pytest.mark.extension("kernel_features")
def test_kernel_features_are_texts_and_true_of_this_kernel(environment: dict[str, Any]) -> None:
    found = environment["kernel_features"]
    assert set(found) >= {"idmapped_mounts", "netnsid_getifaddrs", "seccomp_listener", "seccomp_listener_continue",
                          "shiftfs", "uevent_injection", "unpriv_fscaps"}  # fmt: skip
    assert set(found.values()) <= {"true", "false"}
    assert found["shiftfs"] == ("true" if "shiftfs" in Path("/proc/filesystems").read_text() else "false")
    version = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    assert found["idmapped_mounts"] == ("true" if version >= (5, 12) else "false")
    assert environment["kernel_version"] == platform.release()


@pytest.mark.extension("lxc_features")
def test_lxc_features_are_those_of_the_installed_library(environment: dict[str, Any]) -> None:
    import ctypes

    library = ctypes.CDLL("liblxc.so.1")
    library.lxc_has_api_extension.restype = ctypes.c_bool
    assert environment["lxc_features"]
    for name, value in environment["lxc_features"].items():
        assert value == ("true" if library.lxc_has_api_extension(name.encode()) else "false"), name


@pytest.mark.extension("server_instance_driver_operational")
def test_drivers_of_instances_are_the_operational_ones(environment: dict[str, Any], api: Client) -> None:
    import ctypes

    library = ctypes.CDLL("liblxc.so.1")
    library.lxc_get_version.restype = ctypes.c_char_p
    drivers = environment["driver"].split(" | ")
    versions = environment["driver_version"].split(" | ")
    assert versions[drivers.index("lxc")] == library.lxc_get_version().decode()
    if "qemu" not in drivers:
        eventually(
            lambda: "Instance type not operational" in {one["type"] for one in api.get("/1.0/warnings?recursion=1")}
        )


@pytest.mark.extension("server_supported_storage_drivers")
def test_storage_drivers_that_are_named_can_be_used(environment: dict[str, Any], api: Client) -> None:
    named = {driver["Name"]: driver for driver in environment["storage_supported_drivers"]}
    assert named["dir"] == {"Name": "dir", "Version": "1", "Remote": False}
    assert "nosuchdriver" not in named
    refusal = api.refusal("POST", "/1.0/storage-pools", {"name": "nosuchpool", "driver": "nosuchdriver", "config": {}})
    assert refusal.status >= 400


@pytest.mark.extension("patch")
def test_patch_lays_over_and_put_replaces(clean: Client) -> None:
    clean.patch("/1.0", {"config": {"user.a": "1", "core.shutdown_timeout": "4"}})
    clean.patch("/1.0", {"config": {"core.shutdown_timeout": "3"}})
    config = clean.get("/1.0")["config"]
    assert (config["user.a"], config["core.shutdown_timeout"]) == ("1", "3")
    clean.patch("/1.0", {"config": {"core.shutdown_timeout": ""}})
    assert "core.shutdown_timeout" not in clean.get("/1.0")["config"]
    clean.patch("/1.0", {"config": {"core.shutdown_timeout": "3"}})
    clean.put("/1.0", {"config": {"user.a": "1"}})
    assert "core.shutdown_timeout" not in clean.get("/1.0")["config"]


@pytest.mark.extension("etag")
def test_a_stale_etag_is_refused_and_changes_nothing(clean: Client) -> None:
    stale = clean.etag("/1.0")
    clean.patch("/1.0", {"config": {"user.a": "1"}})
    answer = clean.request("PUT", "/1.0", {"config": {"user.a": "2"}}, {"If-Match": stale})
    assert answer.status == 412
    assert "ETag doesn't match" in answer.error
    assert clean.get("/1.0")["config"]["user.a"] == "1"
    fresh = clean.etag("/1.0")
    assert clean.request("PUT", "/1.0", {"config": {"user.a": "2"}}, {"If-Match": fresh}).status == 200


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("foo.bar", "bar", "cannot set 'foo.bar' to 'bar': unknown key"),
        ("core.shutdown_timeout", "abc", "cannot set 'core.shutdown_timeout' to 'abc': invalid integer"),
        (
            "core.https_allowed_credentials",
            "maybe",
            "cannot set 'core.https_allowed_credentials' to 'maybe': invalid boolean",
        ),
        ("core.shutdown_timeout", 8, "cannot set 'core.shutdown_timeout': invalid type float64"),
        ("storage.zfs_pool_name", "x", "cannot set 'storage.zfs_pool_name' to 'x': unknown key"),
    ],
)
def test_keys_that_are_refused(api: Client, key: str, value: Any, text: str) -> None:
    refusal = api.refusal("PATCH", "/1.0", {"config": {key: value}})
    assert (refusal.status, refusal.text) == (400, text)
    assert key not in api.get("/1.0")["config"]


@pytest.mark.extension("https_allowed_credentials")
def test_credentials_are_allowed_when_the_server_says_so(clean: Client) -> None:
    header = "access-control-allow-credentials"
    assert header not in clean.request("GET", "/1.0").headers
    clean.patch("/1.0", {"config": {"core.https_allowed_credentials": "true"}})
    eventually(lambda: clean.request("GET", "/1.0").headers.get(header) == "true")
    clean.patch("/1.0", {"config": {"core.https_allowed_credentials": ""}})
    eventually(lambda: header not in clean.request("GET", "/1.0").headers)


@pytest.mark.extension("certificate_token")
def test_there_is_no_token_without_an_address_to_redeem_it_at(api: Client) -> None:
    refusal = api.refusal("POST", "/1.0/certificates", {"type": "client", "token": True, "name": "x"})
    assert (refusal.status, refusal.text) == (400, "Can't issue token when server isn't listening on network")


def test_a_change_of_the_configuration_is_told(clean: Client) -> None:
    with clean.events() as events:
        clean.patch("/1.0", {"config": {"user.told": "1"}})
        events.wait_for(action="config-updated", source="/1.0")


@pytest.mark.extension("warnings")
def test_warnings_are_acknowledged_and_removed(api: Client) -> None:
    found = eventually(lambda: api.get("/1.0/warnings?recursion=1"))[0]
    path = f"/1.0/warnings/{found['uuid']}"
    assert path in api.get("/1.0/warnings")
    assert found["status"] in ("new", "acknowledged")
    assert found["count"] >= 1
    api.put(path, {"status": "acknowledged"})
    assert api.get(path)["status"] == "acknowledged"
    for status, code in (("bogus", 400), ("resolved", 403)):
        assert api.request("PUT", path, {"status": status}).status == code
    api.delete(path)
    answer = api.request("GET", path)
    assert (answer.status, answer.error) == (404, "Warning not found")


@pytest.mark.extension("resources")
def test_hardware_agrees_with_the_kernel(api: Client) -> None:
    found = api.get("/1.0/resources")
    assert found["cpu"]["total"] == os.cpu_count()
    block = int(Path("/sys/devices/system/memory/block_size_bytes").read_text(), 16)
    online = sum(one.read_text().strip() == "1" for one in Path("/sys/devices/system/memory").glob("memory*/online"))
    assert found["memory"]["total"] == block * online
    assert found["pci"]["total"] == len(list(Path("/sys/bus/pci/devices").iterdir()))
    disks = {disk["id"]: disk for disk in found["storage"]["disks"]}
    for disk in disks.values():
        assert disk["size"] == int(Path(f"/sys/class/block/{disk['id']}/size").read_text()) * 512
