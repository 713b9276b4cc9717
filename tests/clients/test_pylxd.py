"""pylxd's own integration tests, from the source distribution of the installed version, against our server.

They are fetched from PyPI when first needed and kept in .cache/pylxd; without PyPI they are skipped. Each module runs in
a process of its own, led to the server by LXD_DIR, or over HTTPS by a plugin. What is left out, and why, stands in LEFT_OUT.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conformance.client import Client
from tests.conformance.servers import ROOT, Server
from tests.conformance.tls import Identity
from tests.conformance.world import Ground, unique

LEFT_OUT = {
    "test_cluster_members.py": "needs a cluster",
    "test_containers.py::TestContainer::test_migrate_running": "needs two servers at fixed addresses",
    "test_containers.py::TestContainer::test_migrate_local_client": "needs two servers at fixed addresses",
    "test_containers.py::TestContainer::test_migrate_stopped": "needs two servers at fixed addresses",
}
LEFT_OUT_ON_LXD = {
    "test_networks.py": "LXD probes the subnets it draws by ping, and here something answers for all of them",
}
NOT_YET = {"test_containers.py::TestContainer::test_snapshot": "snapshots of instances come with a later issue"}
MODULES = ["containers", "images", "instances", "networks", "profiles", "storage"]
OVER_HTTPS = ["client", "instances", "projects"]
PASSWORD = "password"  # the one that pylxd's tests know
PROJECT = "test-project"  # likewise


@pytest.fixture(scope="session")
def sources() -> Path:
    """The unpacked source distribution."""
    cache, wanted = ROOT / ".cache" / "pylxd", version("pylxd")
    folder = cache / f"pylxd-{wanted}"
    if not (folder / "integration").exists():
        cache.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "-d", str(cache)]
        done = subprocess.run([*fetch, f"pylxd=={wanted}"], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            pytest.skip(f"PyPI does not give us pylxd's sources: {done.stderr[-300:]}")
        with tarfile.open(next(cache.glob(f"pylxd-{wanted}.tar.gz"))) as archive:
            archive.extractall(cache, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


@pytest.fixture(scope="session")
def quick_tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `pxz` that compresses lightly: the tests take it when there is one, and build an image each."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "pxz").write_text('#!/bin/sh\nexec xz -0 "$2"\n')
    (folder / "pxz").chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def default_root_disk(api: Client, ground: Ground) -> Iterator[None]:
    """The default profile with a root disk, as `init --auto` leaves it: pylxd's tests count on that."""
    before = api.get("/1.0/profiles/default")
    disk = {"root": {"type": "disk", "path": "/", "pool": ground.pool}}
    api.put("/1.0/profiles/default", {**before, "devices": {**before["devices"], **disk}})
    yield
    api.put("/1.0/profiles/default", before)


def run(sources: Path, file: str, environment: dict[str, str], left_out: Iterable[str], *options: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", "/dev/null", "-p", "no:cacheprovider"]
    command += [option for name in left_out for option in ("--deselect", f"integration/{name}")]
    done = subprocess.run(
        [*command, *options, "--rootdir", ".", f"integration/{file}"],
        cwd=sources, env=environment, capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.fixture
def environment(server: Server, quick_tools: Path, tmp_path: Path) -> dict[str, str]:
    found = {**os.environ, "LXD_DIR": str(server.directory), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    found["PATH"] = f"{quick_tools}:{found['PATH']}"
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.usefixtures("default_root_disk")
def test_pylxds_own_tests_pass(server: Server, sources: Path, environment: dict[str, str], module: str) -> None:
    file = f"test_{module}.py"
    left_out = {**LEFT_OUT, **(LEFT_OUT_ON_LXD if server.is_lxd else NOT_YET)}
    if file in left_out:
        pytest.skip(left_out[file])
    run(sources, file, environment, left_out)


@pytest.fixture(scope="module")
def over_https(
    api: Client, server: Server, https_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A trusted client for what pylxd does; in its home the pair of another one, which is not trusted yet."""
    home = tmp_path_factory.mktemp("pylxd")
    known, stranger = Identity.make(home, unique("known")), Identity.make(home, unique("stranger"))
    certificates = home / ".config/lxc"
    (certificates / "servercerts").mkdir(parents=True)
    shutil.copy(server.directory / "server.crt", certificates / "servercerts/127.0.0.1.crt")
    for name in ("client.crt", "client.key"):
        shutil.copy(stranger.file, certificates / name)
    api.post("/1.0/certificates", {"type": "client", "certificate": known.base64})
    api.post("/1.0/projects", {"name": PROJECT})
    api.patch("/1.0", {"config": {"core.trust_password": PASSWORD}})
    yield {
        "REQUESTS_CA_BUNDLE": "",  # these would be taken for the server's certificate
        "CURL_CA_BUNDLE": "",
        "HOME": str(home),
        "PYTHONPATH": str(Path(__file__).parent),
        "PYLXD_ENDPOINT": f"https://127.0.0.1:{https_port}",
        "PYLXD_CERTIFICATE": str(known.file),
    }
    api.patch("/1.0", {"config": {"core.trust_password": ""}})
    api.delete(f"/1.0/projects/{PROJECT}")
    for who in (known, stranger):
        api.request("DELETE", f"/1.0/certificates/{who.fingerprint}")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("module", OVER_HTTPS)
@pytest.mark.usefixtures("default_root_disk")
def test_pylxds_own_tests_pass_over_https(
    server: Server, sources: Path, environment: dict[str, str], over_https: dict[str, str], module: str
) -> None:
    left_out = {**LEFT_OUT, **({} if server.is_lxd else NOT_YET)}
    run(sources, f"test_{module}.py", {**environment, **over_https}, left_out, "-p", "pylxd_over_https")
