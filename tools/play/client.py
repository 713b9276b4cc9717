"""What a user's programs do against the deployment: the REST API with its Retry-After, and Debian's command lxc."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import images
from tools.play.load import Remote

PATIENCE = 120  # seconds that an operation gets
BRIDGE = "nbplay1"
# What is said while a part is away, and when a machine is too busy to connect a command's sockets in five seconds.
AWAY = ("service is not available", "stopped answering", "went away", "Timed out waiting for websockets")


def change(remote: Remote, method: str, path: str, body: object = None) -> dict[str, object]:
    """A change that must succeed; 503 is tried again as its Retry-After asks."""
    for _ in range(60):
        try:
            status, answer, headers = remote.request(method, path, body)
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            continue
        if status != 503:
            break
        time.sleep(float(headers["retry-after"]))
    if status == 202:
        return finished(remote, answer["operation"])
    assert status in (200, 201), (method, path, status, answer)
    return dict(answer)


def finished(remote: Remote, operation: str) -> dict[str, object]:
    """The operation when it has ended, asked again for as long as parts are away."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            status, answer, _ = remote.request("GET", f"{operation}/wait?timeout=10")
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            continue
        if status == 200 and answer["metadata"]["status_code"] >= 200:
            return dict(answer["metadata"])
        if status not in (200, 503):
            return {"status": f"lost ({status})"}
        time.sleep(0.2)
    return {"status": "still running"}


def upload(remote: Remote, data: bytes) -> str:
    """The fingerprint of the image that `data` is."""
    for _ in range(60):
        status, answer, headers = remote.request("POST", "/1.0/images", data)
        if status == 202:
            break
        time.sleep(float(headers["retry-after"]))
    operation = finished(remote, answer["operation"])
    return str(operation["metadata"]["fingerprint"])  # type: ignore[index]


def prepare(remote: Remote, subnet: str = "198.18.202.1/24") -> str:
    """A pool, a network, a profile that uses both, and an image, whose fingerprint is returned."""
    change(remote, "POST", "/1.0/storage-pools", {"name": "default", "driver": "dir", "config": {}})
    network = {"ipv4.address": subnet, "ipv6.address": "none", "ipv4.nat": "true"}
    change(remote, "POST", "/1.0/networks", {"name": BRIDGE, "type": "bridge", "config": network})
    devices = {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "network": BRIDGE, "name": "eth0"},
    }
    change(remote, "PUT", "/1.0/profiles/default", {"config": {}, "devices": devices, "description": ""})
    return upload(remote, images.unified("tar.gz"))


def take_down(remote: Remote) -> None:
    """What `prepare` made on the node, and every instance; whatever is away is passed over."""
    status, answer, _ = remote.request("GET", "/1.0/instances", timeout=10)
    for url in answer["metadata"] if status == 200 else ():
        ends(remote, str(url).rpartition("/")[2])
    change(remote, "PUT", "/1.0/profiles/default", {"config": {}, "devices": {}, "description": ""})
    remote.request("DELETE", f"/1.0/networks/{BRIDGE}")


def launch(remote: Remote, name: str, image: str) -> dict[str, object]:
    source = {"type": "image", "fingerprint": image}
    made = change(remote, "POST", "/1.0/instances", {"name": name, "source": source})
    if made["status"] != "Success":
        return made
    return change(remote, "PUT", f"/1.0/instances/{name}/state", {"action": "start"})


def ends(remote: Remote, name: str) -> dict[str, object]:
    """Stopped, if it ran, and deleted."""
    stopped = change(remote, "PUT", f"/1.0/instances/{name}/state", {"action": "stop", "force": True})
    gone = change(remote, "DELETE", f"/1.0/instances/{name}")
    return gone if stopped["status"] == "Success" else stopped


def ran(remote: Remote, name: str) -> object:
    body = {"command": ["sh", "-c", "exit 7"], "wait-for-websocket": False, "interactive": False}
    return change(remote, "POST", f"/1.0/instances/{name}/exec", body)["metadata"]["return"]  # type: ignore[index]


@dataclass
class Lxc:
    """Debian's client with a configuration of its own; the remote is called `play`."""

    home: Path

    @classmethod
    def of(cls, home: Path, certificate: Path, key: Path, url: str) -> Lxc:
        home.mkdir()
        shutil.copy(certificate, home / "client.crt")
        shutil.copy(key, home / "client.key")
        client = cls(home)
        client.run("remote", "add", "play", url, "--accept-certificate", "--protocol=lxd")
        return client

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "LXD_CONF": str(self.home), "HOME": str(self.home)}

    def run(self, *arguments: str, code: int = 0) -> str:
        """What it printed; it must end with `code`. It is called again while it says that a part is away: lxc itself does not."""
        end = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(
                ["lxc", *arguments], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
            )  # fmt: skip
            if done.returncode == code:
                return done.stdout
            if not any(words in done.stderr for words in AWAY) or time.monotonic() > end:
                raise RuntimeError(f"lxc {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
            if arguments[0] == "launch":  # it may have come half the way
                subprocess.run(["lxc", "delete", "--force", arguments[-1]], env=self.environment, capture_output=True)
            time.sleep(1)


@dataclass
class Monitor:
    """`lxc monitor` at work; `actions` are those of the lifecycle events that it has printed."""

    lxc: Lxc
    actions: list[str] = field(default_factory=list)

    def __enter__(self) -> Monitor:
        self._process = subprocess.Popen(
            ["lxc", "monitor", "play:", "--type=lifecycle", "--format=json"], env=self.lxc.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self.actions.append(json.loads(line)["metadata"]["action"])

    def connected(self, remote: Remote) -> None:
        """Returns when it hears: a profile is described anew until it does."""
        for number in range(PATIENCE):
            if self.actions:
                return
            change(remote, "PATCH", "/1.0/profiles/default", {"description": f"heard {number}?"})
            time.sleep(0.5)
        raise RuntimeError("lxc monitor hears nothing")

    def heard(self, action: str) -> bool:
        """Whether the action comes within the patience."""
        end = time.monotonic() + PATIENCE
        while action not in self.actions and time.monotonic() < end:
            time.sleep(0.1)
        return action in self.actions
