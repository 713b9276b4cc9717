"""The deployment of deploy/k8s played with podman, in short: `python -m tools.play` is the whole of it.

One image that is made in seconds stands for those of all parts; everything else (manifests, rights, probes, certificates, networks) is
as in the whole play. Where podman cannot run a container of the node's rights, the tests are skipped with podman's own words.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.play import debris, quick_image, rights, scenario
from tools.play.claims import Claims
from tools.play.client import prepare
from tools.play.deployment import Deployment
from tools.play.podman import Podman, remove_store

TOOLS = ("podman", "buildah", "runc", "netavark", "conmon", "catatonit")


def found(tool: str) -> bool:
    places = ("/usr/lib/podman", "/usr/libexec/podman")
    return bool(shutil.which(tool) or any(os.path.exists(f"{place}/{tool}") for place in places))


def refusal(podman: Podman) -> str:
    """Why podman cannot run what a node's pod needs; "" if it can. Makes the image and the network on the way."""
    node = ["--privileged", "--pid=host", "--network=host", "-v", f"{podman.directory}/shared:/data:rshared"]
    pod = ["--network", podman.network, "--ip", f"{podman.subnet}.9"]
    try:
        (podman.directory / "shared").mkdir()
        quick_image.build(podman.env)
        podman.open()
        for kind in (node, pod):
            podman.run("run", "--rm", "--read-only", *kind, quick_image.NAME, "/usr/bin/python3", "-c", "print(1)")
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """In a store of its own, with the image."""
    if os.geteuid() != 0:
        pytest.skip("pods with the rights of a node need root")
    if missing := [tool for tool in TOOLS if not found(tool)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Podman.alone(), tempfile.TemporaryDirectory(prefix="nbp-", dir="/var/tmp") as scratch:
        store = Path(scratch, "oci")
        store.mkdir()
        podman = Podman(Path(scratch), str(store), "nubibus-short", "198.18.204")
        try:
            if words := refusal(podman):
                pytest.skip(f"podman cannot run pods here: {words}")
            yield podman
        finally:
            podman.clear()
            debris.end_cgroups()
            remove_store(store)


@pytest.fixture(scope="module")
def deployment(podman: Podman) -> Iterator[Deployment]:
    """The overlay `single`, ready, with a pool, a network and an image; nothing may be left of it."""
    before = debris.look(podman)
    playing = Deployment(podman.directory, podman, "latest", quick_image.NAME)
    try:
        playing.open()
        yield playing
    finally:
        playing.close()
    assert debris.look(podman) - before == set()


@pytest.fixture(scope="module")
def image(deployment: Deployment) -> str:
    return prepare(deployment.remote())


@pytest.fixture
def claims() -> Iterator[Claims]:
    """All that were made must hold."""
    made = Claims()
    yield made
    assert made.told > 0
    assert made.broken == []


def test_lxc_launches_runs_and_hears(claims: Claims, deployment: Deployment, image: str) -> None:
    scenario.first_steps(claims, deployment, image)


def test_the_gateway_has_no_rights_and_strangers_are_refused(claims: Claims, deployment: Deployment) -> None:
    rights.check(claims.tell, deployment)


def test_a_gateway_is_killed_and_replaced_under_requests(claims: Claims, deployment: Deployment, image: str) -> None:
    scenario.under_load(claims, deployment, "gateway", image, "kill", patient=True)
