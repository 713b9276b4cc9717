"""What clients need: a server, a pool and image of the session, and an environment that leads a client to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.clients.lxc import Lxc
from tests.conformance import images
from tests.conformance.client import Client, eventually
from tests.conformance.conftest import api, ground, https_port, reaper, stage, world
from tests.conformance.servers import Server
from tests.conformance.tls import free_port, open_at
from tests.conformance.world import Ground, World, unique

__all__ = ["api", "ground", "https_port", "reaper", "stage", "world"]
PASSWORD = "correct horse"


@pytest.fixture(scope="module", params=["unix", "https"])
def lxc(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lxc]:
    """Over the unix socket; and of a user elsewhere, whose default is a remote over HTTPS that was added with the password."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "unix":
        yield Lxc(server.directory, home)
        return
    port, api = free_port(), Client(server.socket)
    api.patch("/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}", "core.trust_password": PASSWORD}})
    eventually(lambda: open_at(port))
    made = Lxc(home / "nowhere", home)
    made("remote", "add", "far", f"https://127.0.0.1:{port}", "--accept-certificate", "--password", PASSWORD)
    made("remote", "switch", "far")
    yield made
    pem = (home / ".config/lxc/client.crt").read_bytes()
    fingerprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
    api.delete(f"/1.0/certificates/{fingerprint}")
    api.patch("/1.0", {"config": {"core.https_address": "", "core.trust_password": ""}})


@pytest.fixture(scope="module")
def bb(ground: Ground, lxc: Lxc) -> Iterator[str]:
    """The alias of an image for `lxc launch`, imported by `lxc image import`."""
    alias, path = unique("bb"), lxc.home / "bb.tar.xz"
    path.write_bytes(images.unified_with({"mine": alias}, "tar.xz"))
    lxc("image", "import", str(path), "--alias", alias)
    yield alias
    lxc("image", "delete", alias)


@pytest.fixture
def c1(world: World, ground: Ground, bb: str, lxc: Lxc) -> str:
    """A container that `lxc launch` started."""
    name = unique("c")
    world.finally_do(lambda: world.remove_instance(name))
    lxc("launch", bb, name, "--storage", ground.pool)
    return name
