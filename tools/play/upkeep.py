"""What docs/kubernetes.md has an operator do later: nats-server takes up a renewed certificate, the log is backed up and restored."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

from tools import cluster_secrets
from tools.play.claims import Claims
from tools.play.client import change, ran
from tools.play.deployment import Deployment
from tools.play.podman import ROOT, until

PROFILE = "/1.0/profiles/default"
BEFORE, AFTER = "as it is in the backup", "changed after the backup"


def check(claims: Claims, deployment: Deployment) -> None:
    """`c1` must run."""
    renewal(claims, deployment)
    restore(claims, deployment)


def renewal(claims: Claims, deployment: Deployment) -> None:
    """The command is the one that `kubectl exec` is given."""
    pod = deployment.podman.pods["nats-0"][0]
    authority = cluster_secrets.Authority.of(deployment.translation.secrets["nubibus-authority"])
    renewed = authority.issue("nats", cluster_secrets.NATS_NAMES, (deployment.nats,))
    for path in [path for path in pod.files if path.parent.name == "tls"]:
        path.write_bytes(renewed[path.name])
    before = shown_certificate(deployment.nats)
    deployment.podman.run("exec", "nats-0-nats", "/nats-server", "--signal", "reload=1")
    wanted = ssl.PEM_cert_to_DER_cert(renewed["tls.crt"].decode())
    until(lambda: shown_certificate(deployment.nats) == wanted, 30, lambda: "nats-server shows its old certificate")
    claims.tell("nats-server takes up a renewed certificate without a restart", before != wanted)


def shown_certificate(address: str) -> bytes:
    """What nats-server shows, DER: it speaks first, and then TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 4222), 10) as raw:
        raw.recv(65536)
        with context.wrap_socket(raw) as secured:
            return secured.getpeercert(binary_form=True) or b""


def restore(claims: Claims, deployment: Deployment) -> None:
    """Every part stopped, the log replaced, every part started."""
    remote, file = deployment.remote(), deployment.directory / "log.gz"
    change(remote, "PATCH", PROFILE, {"description": BEFORE})
    done = command(deployment, "log-backup", file)
    claims.tell("the log is backed up while everything runs", done.returncode == 0, done.stdout.strip() or done.stderr)
    change(remote, "PATCH", PROFILE, {"description": AFTER})
    done = command(deployment, "log-restore", file, "--yes")
    claims.tell("no log is restored under parts that run", "end them first" in done.stderr, done.stderr.strip())
    parts = [name for name in deployment.podman.pods if not name.startswith("nats-")]
    for name in parts:
        deployment.podman.remove(name)
    done = command(deployment, "log-restore", file, "--yes")
    claims.tell("the log is restored", done.returncode == 0, done.stdout.strip() or done.stderr)
    for name in parts:
        workload, _, number = name.rpartition("-")
        deployment.start(workload, int(number))
    for name in parts:
        deployment.podman.wait_ready(name)
    found = change(remote, "GET", PROFILE)["metadata"]["description"]  # type: ignore[index]
    claims.tell("what changed after the backup is as it was before", found == BEFORE, found)
    claims.tell("the instance ran on through the restore", ran(remote, "c1") == 7)


def command(deployment: Deployment, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`nubibus`, which reaches the deployment's nats-server as an operator's machine does."""
    secrets, identity = deployment.translation.secrets, deployment.directory / "operator"
    identity.mkdir(mode=0o700, exist_ok=True)
    for name, data in secrets["nubibus-tls-control"].items():
        (identity / name).write_bytes(data)
    environment = {
        **os.environ,
        "NUBIBUS_NATS": f"tls://{deployment.nats}:4222",
        "NUBIBUS_NATS_PASSWORD": secrets["nubibus-nats"]["password"].decode(),
        "NUBIBUS_TLS": str(identity),
    }
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )  # fmt: skip
