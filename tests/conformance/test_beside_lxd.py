"""Side by side with a real LXD on the same machine: what both say of the machine and of themselves is the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance import servers
from tests.conformance.client import Client, eventually
from tests.conformance.servers import Server
from tests.conformance.tls import Remote, free_port

Leaves = dict[str, Any]
MOVES = re.compile(r"\.(used|frequency|frequency_minimum|frequency_turbo|free|link_speed|link_detected)$")
DIFFERS = {
    # docs/deviations.md
    r"\.system\.type$", r"\.storage\.disks\[\d+\]\.block_size$", r"\.network\.cards\[\d+\]\.product(_id)?$",
}  # fmt: skip
OURS_ALONE = {"container_syscall_filtering_allow_deny_syntax", "external_authentication", "resources_cpu_isolated"}


@pytest.fixture(scope="module")
def lxd(server: Server) -> Iterator[Client]:
    """A real LXD beside the server under test."""
    if server.is_lxd:
        pytest.skip("LXD beside LXD")
    if shutil.which("lxd") is None:
        pytest.skip("lxd is not installed (tools/setup --bench)")
    made = servers.make("lxd")
    try:
        made.start()
        yield Client(made.socket)
    finally:
        made.close()


def leaves(found: Any, where: str = "") -> Leaves:
    """Every value by its path; of a list its length too, so that nothing is missing unseen."""
    if isinstance(found, dict):
        return {k: v for name, each in found.items() for k, v in leaves(each, f"{where}.{name}").items()}
    if isinstance(found, list):
        inside = {k: v for n, each in enumerate(found) for k, v in leaves(each, f"{where}[{n}]").items()}
        return {f"{where}#": len(found), **inside}
    return {where: found}


def stable(found: Leaves) -> Leaves:
    return {
        path: None if MOVES.search(path) or any(re.search(each, path) for each in DIFFERS) else value
        for path, value in found.items()
    }


@pytest.mark.extension("resources")
def test_the_hardware_is_described_alike(api: Client, lxd: Client) -> None:
    def alike() -> bool:
        """A network device of another test may come or go between the two."""
        ours, theirs = (stable(leaves(each.get("/1.0/resources"))) for each in (api, lxd))
        assert ours == theirs
        return True

    eventually(alike)


@pytest.mark.extension("resources")
def test_used_memory_is_counted_alike(api: Client, lxd: Client) -> None:
    """Within a quarter of a GiB, of whatever the machine is doing meanwhile."""

    def used(of: Client) -> int:
        return int(of.get("/1.0/resources")["memory"]["used"])

    eventually(lambda: abs(used(api) - used(lxd)) < 256 << 20)


def test_the_server_describes_itself_alike(api: Client, lxd: Client) -> None:
    ours, theirs = api.get("/1.0"), lxd.get("/1.0")
    assert list(ours) == list(theirs)
    for field in ("api_status", "api_version", "auth", "public", "auth_methods"):
        assert ours[field] == theirs[field]
    assert set(ours["api_extensions"]) - set(theirs["api_extensions"]) <= OURS_ALONE
    own = {
        "certificate",
        "certificate_fingerprint",
        "server_pid",
        "storage",
        "storage_version",
        "driver_version",
        "driver",
    }
    here, there = ours["environment"], theirs["environment"]
    assert set(here) == set(there)
    for field in set(here) - own - {"storage_supported_drivers"}:
        assert here[field] == there[field], field
    names = {each["Name"] for each in there["storage_supported_drivers"]}
    assert {each["Name"] for each in here["storage_supported_drivers"]} <= names


def test_a_guest_is_told_the_same_fields(api: Client, lxd: Client) -> None:
    told = []
    for each in (api, lxd):
        port = free_port()
        each.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
        try:
            told.append(eventually(lambda port=port: guest(port)))
        finally:
            each.patch("/1.0", {"config": {"core.https_address": ""}})
    ours, theirs = told
    assert list(ours) == list(theirs)
    assert {k: v for k, v in ours.items() if k != "api_extensions"} == {
        k: v for k, v in theirs.items() if k != "api_extensions"
    }


def guest(port: int) -> dict[str, Any]:
    """GET /1.0 without a certificate; nothing while nobody listens."""
    try:
        return dict(Remote(port).get("/1.0"))
    except OSError:
        return {}


def test_the_same_things_are_missing_here(api: Client, lxd: Client) -> None:
    """Warnings at the start: both find the same."""

    def types(of: Client) -> set[str]:
        return {each["type"] for each in of.get("/1.0/warnings?recursion=1") if not each["entity_url"]}

    eventually(lambda: types(api) == types(lxd))
