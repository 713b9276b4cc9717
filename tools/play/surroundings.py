"""Pods in bad surroundings: each says in one line of its log and in its readiness what is missing and what to do, and stays up."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from tools import cluster_secrets
from tools.play.deployment import Deployment
from tools.play.podman import answer_of
from tools.play.translate import Pod, probe_address
from tools.render import Manifest

Tell = Callable[[str, bool, object], None]
PATIENCE = 60  # seconds until a pod must have said what it lacks, or be ready again


def check(tell: Tell, deployment: Deployment) -> None:
    wrong_password(tell, deployment)
    expired_certificate(tell, deployment)
    bad_node(tell, deployment)


def wrong_password(tell: Tell, deployment: Deployment) -> None:
    pod, address = deployment.pod("control", 30)
    for entry in pod.manifest["spec"]["containers"][0]["env"]:
        if entry["name"] == "NUBIBUS_NATS_PASSWORD":
            entry["value"] = "wrong"
    deployment.podman.play(pod, address)
    lacking(tell, deployment, pod, "control", "a wrong NATS password", "NUBIBUS_NATS_PASSWORD must be")
    deployment.podman.remove(pod.name)


def expired_certificate(tell: Tell, deployment: Deployment) -> None:
    pod, address = deployment.pod("control", 31)
    authority = cluster_secrets.Authority.of(deployment.translation.secrets["nubibus-authority"])
    expired, valid = authority.issue("control", (), days=0), authority.issue("control", ())
    own = [path for path in pod.files if path.parent.name == "tls"]
    for path in own:
        pod.files[path] = (expired[path.name], *pod.files[path][1:])
    deployment.podman.play(pod, address)
    lacking(tell, deployment, pod, "control", "an expired certificate", "renew it with")
    for path in own:
        path.write_bytes(valid[path.name])
    tell("a renewed certificate is taken up without a restart", ready_within(deployment, pod.name), "")
    deployment.podman.remove(pod.name)


def bad_node(tell: Tell, deployment: Deployment) -> None:
    """No cgroups for instances, no host path for storage, no rights on nftables for network; the instances of the node run on."""
    deployment.podman.remove("node-0")
    pod, address = deployment.pod("node", 0)
    parts = {container["name"]: container for container in pod.manifest["spec"]["containers"]}
    _hide_cgroups(pod, deployment.directory / "empty")
    parts["storage"]["volumeMounts"] = [m for m in parts["storage"]["volumeMounts"] if m["name"] != "state"]
    parts["network"]["securityContext"]["capabilities"]["add"] = ["DAC_OVERRIDE"]
    deployment.podman.play(pod, address)
    lacking(tell, deployment, pod, "instances", "a node without cgroup controllers", "mount cgroup2")
    lacking(tell, deployment, pod, "storage", "a missing host path", "/var/lib/nubibus is missing")
    lacking(tell, deployment, pod, "network", "a node without nftables", "nftables cannot be used")
    deployment.podman.remove("node-0")
    deployment.start("node", 0)
    tell("the node's parts are ready again when all is there", ready_within(deployment, "node-0"), "")


def _hide_cgroups(pod: Pod, empty: Path) -> None:
    pod.owned[empty] = 0
    for volume in pod.manifest["spec"]["volumes"]:
        if volume["name"] == "cgroup":
            volume["hostPath"] = {"path": str(empty), "type": "Directory"}


def lacking(tell: Tell, deployment: Deployment, pod: Pod, part: str, what: str, words: str) -> None:
    podman, container = deployment.podman, f"{pod.name}-{part}"
    url = probe_address(pod.probes[part]["readinessProbe"], podman.pods[pod.name][1])
    status, said = 0, ""
    end = time.monotonic() + PATIENCE
    while words not in said and time.monotonic() < end:
        time.sleep(0.2)
        with contextlib.suppress(ConnectionRefusedError):  # it has only just begun
            status, said = answer_of(url)
    tell(f"{what}: {part} says so in its readiness", status == 503 and words in said, said.strip())
    alive = answer_of(probe_address(pod.probes[part]["livenessProbe"], podman.pods[pod.name][1]))[0]
    state: Manifest = json.loads(podman.run("inspect", container))[0]
    stays = state["State"]["Running"] and state["RestartCount"] == 0 and alive == 200
    tell(f"{what}: {part} stays up", stays, "" if stays else state["State"])
    lines = [line for line in podman.said(container).splitlines() if "not ready" in line]
    tell(f"{what}: {part} logs one line of it", len(lines) == 1 and words in lines[0], "" if len(lines) == 1 else lines)


def ready_within(deployment: Deployment, name: str) -> bool:
    end = time.monotonic() + PATIENCE
    while not deployment.podman.ready(name):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
