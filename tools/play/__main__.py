"""python -m tools.play [--tag TAG] [--directory D]: the deployment played for real, killed and rolled under load.

Needs root, podman with runc, and images of `deploy/images/build`. Prints one line a claim and exits 1 when one does not hold:
an instance is launched and its command runs; each part is killed while requests go on; the deployment is rolled to another
image; the gateway is scaled from 1 to 3 while listeners stay; the gateway's rights are what the manifests say.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import images
from tools.play import rights
from tools.play.deployment import Deployment
from tools.play.load import Listener, Reads, Remote

READS = ("/1.0", "/1.0/profiles", "/1.0/instances?recursion=1", "/1.0/images", "/1.0/networks", "/1.0/storage-pools")
TWICE = ("gateway", "control")


class Claims:
    """What was shown, and what was not."""

    def __init__(self) -> None:
        self.broken = 0

    def tell(self, claim: str, holds: bool, detail: object = "") -> None:
        self.broken += not holds
        print(f"{'ok    ' if holds else 'BROKEN'} {claim}{f': {detail}' if detail else ''}", flush=True)


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
    end = time.monotonic() + 120
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
    connection = http.client.HTTPSConnection(remote.host, remote.port, timeout=60, context=remote.context)
    connection.request("POST", "/1.0/images", data, {"Content-Type": "application/octet-stream"})
    answer = connection.getresponse().read()
    connection.close()
    operation = finished(remote, json.loads(answer)["operation"])
    return str(operation["metadata"]["fingerprint"])  # type: ignore[index]


def prepare(remote: Remote) -> str:
    change(remote, "POST", "/1.0/storage-pools", {"name": "default", "driver": "dir", "config": {}})
    network = {"ipv4.address": "198.18.202.1/24", "ipv6.address": "none", "ipv4.nat": "true"}
    change(remote, "POST", "/1.0/networks", {"name": "nbplay1", "type": "bridge", "config": network})
    devices = {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "network": "nbplay1", "name": "eth0"},
    }
    change(remote, "PUT", "/1.0/profiles/default", {"config": {}, "devices": devices, "description": ""})
    return upload(remote, images.unified("tar.gz"))


def launch(remote: Remote, name: str, image: str) -> dict[str, object]:
    source = {"type": "image", "fingerprint": image}
    made = change(remote, "POST", "/1.0/instances", {"name": name, "source": source})
    if made["status"] != "Success":
        return made
    return change(remote, "PUT", f"/1.0/instances/{name}/state", {"action": "start"})


def ends(remote: Remote, name: str) -> dict[str, object]:
    stopped = change(remote, "PUT", f"/1.0/instances/{name}/state", {"action": "stop", "force": True})
    return stopped if stopped["status"] != "Success" else change(remote, "DELETE", f"/1.0/instances/{name}")


def ran(remote: Remote, name: str) -> object:
    body = {"command": ["sh", "-c", "exit 7"], "wait-for-websocket": False, "interactive": False}
    return change(remote, "POST", f"/1.0/instances/{name}/exec", body)["metadata"]["return"]  # type: ignore[index]


def under_load(claims: Claims, deployment: Deployment, what: str, image: str, action: str, twice: bool) -> None:
    """Does `action` while reads go on and instances come and go; nothing may be lost."""
    remote = deployment.remote()
    with Listener(remote) as listener, Reads(remote, READS) as reads:
        time.sleep(0.5)
        before = len(listener.actions)
        run(deployment, what, action)
        name = f"load-{what}"
        outcome = [launch(remote, name, image)["status"], ends(remote, name)["status"]]
        time.sleep(0.5)
    claims.tell(f"{action} of {what}: operations end in Success", outcome == ["Success", "Success"], outcome)
    failed = reads.failed()
    if twice:
        claims.tell(f"{action} of {what}: no request failed", not failed, failed)
        # What was under way on the connections of the dead one, at most one a client; a rolling change breaks nothing.
        bound = len(READS) if action == "kill" else 0
        claims.tell(f"{action} of {what}: few were asked again", reads.asked_again <= bound, reads.asked_again)
    else:
        odd = {k: n for k, n in failed.items() if k[1] != "503"}
        claims.tell(f"{action} of {what}: only 503 with Retry-After", not odd and not reads.unretryable, failed or "")
        claims.tell(f"{action} of {what}: nothing was asked again", not reads.asked_again, reads.asked_again)
    seen = listener.sequences
    claims.tell(f"{action} of {what}: events in order, none twice", seen == sorted(set(seen)))
    told = listener.actions[before:]
    wanted = ["instance-created", "instance-started", "instance-stopped", "instance-deleted"]
    claims.tell(
        f"{action} of {what}: no event is missing", [a for a in told if a in wanted] == wanted, told or "none came"
    )


def run(deployment: Deployment, what: str, action: str) -> None:
    if action == "kill":
        pod = "node-0" if what in ("instances", "storage", "network") else f"{what}-0"
        deployment.kill(pod, what)
    else:
        deployment.roll(what, f"{deployment.tag}-next")


def scale(claims: Claims, deployment: Deployment) -> None:
    remote = deployment.remote()
    with Listener(remote) as listener, Reads(remote, ("/1.0",)) as reads:
        time.sleep(0.5)
        for number in (20, 21):
            deployment.start("gateway", number)
            deployment.podman.wait_ready(f"gateway-{number}")
        connected = listener.reconnects
        change(remote, "PATCH", "/1.0/profiles/default", {"description": "scaled"})
        time.sleep(0.5)
    claims.tell("scaling the gateway: listeners stay connected", connected == 0, connected)
    claims.tell("scaling the gateway: no request failed", not reads.failed(), reads.failed())


@contextmanager
def played(directory: Path, tag: str) -> Iterator[Deployment]:
    deployment = Deployment(directory, tag)
    try:
        deployment.open()
        yield deployment
    finally:
        deployment.close()


def scenario(claims: Claims, deployment: Deployment) -> None:
    remote = deployment.remote()
    image = prepare(remote)
    launched = launch(remote, "c1", image)
    claims.tell("an instance is launched", launched["status"] == "Success", launched.get("err", ""))
    claims.tell("its command ends with its exit code", ran(remote, "c1") == 7)
    rights.check(claims.tell, deployment)
    for what in ("gateway", "control", "images", "instances", "storage", "network", "nats"):
        under_load(claims, deployment, what, image, "kill", what in TWICE)
    claims.tell("the instance ran on through it all", ran(remote, "c1") == 7)
    for what in ("gateway", "control", "images", "node"):
        under_load(claims, deployment, what, image, "roll", what in TWICE)
    claims.tell("the instance ran on through the change", ran(remote, "c1") == 7)
    scale(claims, deployment)
    claims.tell("the instance ends", ends(remote, "c1")["status"] == "Success")
    change(remote, "PUT", "/1.0/profiles/default", {"config": {}, "devices": {}, "description": ""})
    change(remote, "DELETE", "/1.0/networks/nbplay1")


def _end(*_: object) -> None:
    raise SystemExit(1)


def main() -> int:
    signal.signal(signal.SIGTERM, _end)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", default="latest")
    given = parser.parse_args()
    claims = Claims()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nbplay-", dir="/var/tmp") as scratch:
        with played(Path(scratch), given.tag) as deployment:
            for part in ("gateway", "control", "images", "instances", "storage", "network", "nats"):
                next_image = f"localhost/nubibus/{part}:{given.tag}-next"
                deployment.podman.run("tag", f"localhost/nubibus/{part}:{given.tag}", next_image)
            scenario(claims, deployment)
        subprocess.run(["umount", "-R", "-l", scratch], capture_output=True)
    print(f"{claims.broken} broken, {time.monotonic() - begin:.0f} s")
    return 1 if claims.broken else 0


if __name__ == "__main__":
    sys.exit(main())
