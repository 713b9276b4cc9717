"""Ansible's lxd_project, lxd_profile and lxd_container, unmodified, over HTTPS: trusted by the password, then by its certificate.

Debian's ansible-core runs the playbook; the modules are taken out of Debian's `ansible`, which is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.debian import borrowed
from tests.conformance.client import Client
from tests.conformance.servers import Server
from tests.conformance.tls import Identity
from tests.conformance.world import World, unique

pytestmark = pytest.mark.skipif(shutil.which("ansible-playbook") is None, reason="ansible-core is not installed")
PACKAGES = "./usr/lib/python3/dist-packages"
MODULES = ("MANIFEST.json", "meta", "plugins/module_utils", "plugins/modules/lxd_*")
REPORT = ("MANIFEST.json", "meta", "plugins/callback/json.py")
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def collections() -> Path:
    wanted = {"community/general": MODULES, "ansible/posix": REPORT}
    members = (f"{PACKAGES}/ansible_collections/{of}/{part}" for of, parts in wanted.items() for part in parts)
    return borrowed("ansible", *members) / PACKAGES


class Ansible:
    """Runs the tasks of the playbook that bear a tag."""

    def __init__(self, collections: Path, home: Path, variables: dict[str, str], authority: Path) -> None:
        self.variables = variables
        self.environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "SSL_CERT_FILE": str(authority),
        }

    def run(self, tag: str, **more: str) -> dict[str, Any]:
        """By the name of a task: whether it changed something. All must succeed."""
        playbook = Path(__file__).with_name("playbook.yml")
        command = ["ansible-playbook", "--tags", tag, "-e", json.dumps({**self.variables, **more}), str(playbook)]
        done = subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
        tasks = json.loads(done.stdout)["plays"][0]["tasks"]
        return {task["task"]["name"]: task["hosts"]["localhost"]["changed"] for task in tasks}


@pytest.fixture
def ansible(server: Server, world: World, https_port: int, collections: Path, tmp_path: Path) -> Iterator[Ansible]:
    names = {what: unique(what[:4]) for what in ("project", "profile", "container")}
    who = Identity.make(tmp_path, unique("ansible"))
    world.api.patch("/1.0", {"config": {"core.trust_password": PASSWORD}})
    yield Ansible(
        collections,
        tmp_path,
        {
            **names,
            "url": f"https://127.0.0.1:{https_port}",
            "key": str(who.file),
            "certificate": str(who.file),
            "pool": world.ground.pool,
            "image": world.ground.image,
        },
        server.directory / "server.crt",
    )
    world.api.patch("/1.0", {"config": {"core.trust_password": ""}})
    world.api.request("DELETE", f"/1.0/certificates/{who.fingerprint}")


@pytest.mark.timeout(300)
def test_what_the_playbook_says_is_made_changed_and_taken_away(ansible: Ansible, world: World) -> None:
    names = ansible.variables
    own = Client(world.api.socket, names["project"])
    world.finally_do(lambda: clean(own, names))

    # As in LXD the password is for a client that is not trusted yet, and refused afterwards.
    assert ansible.run("first", password=PASSWORD) == {"project": True}
    assert ansible.run("made") == {"project": False, "profile": True, "container": True}
    container = own.get(f"/1.0/instances/{names['container']}")
    assert (container["status"], container["profiles"]) == ("Running", [names["profile"]])
    assert (container["config"]["user.size"], container["expanded_config"]["user.color"]) == ("small", "blue")
    assert world.api.get(f"/1.0/projects/{names['project']}")["description"] == "made by Ansible"
    assert ansible.run("made") == {"project": False, "profile": False, "container": False}

    assert ansible.run("changed") == {"container changed": True}
    assert own.get(f"/1.0/instances/{names['container']}")["config"]["user.size"] == "large"

    assert set(ansible.run("gone").values()) == {True}
    assert world.api.request("GET", f"/1.0/projects/{names['project']}").status == 404


def clean(own: Client, names: dict[str, str]) -> None:
    """What a failed run leaves."""
    path = f"/1.0/instances/{names['container']}"
    if own.request("GET", path).status == 200:
        own.finished(own.request("PUT", f"{path}/state", {"action": "stop", "force": True}).operation)
        own.delete(path)
    for name in (names["profile"], f"{names['profile']}-new"):
        own.request("DELETE", f"/1.0/profiles/{name}")
    Client(own.socket).request("DELETE", f"/1.0/projects/{names['project']}")
