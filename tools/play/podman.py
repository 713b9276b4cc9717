"""Runs pods with podman, in a store and a network of the play's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.play.balancer import Member
from tools.play.translate import Pod, probe_address

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "nubibus"
SUBNET = "198.18.201.0/24"
GATEWAY = "198.18.201.1"
# runc may not raise limits again on a machine without CAP_SYS_RESOURCE: podman starts with what a container gets.
LIMITED = ["prlimit", "--nproc=30000:30000"]


def environment() -> dict[str, str]:
    """The environment that deploy/images/storage.sh makes."""
    script = ROOT / "deploy/images/storage.sh"
    said = subprocess.run(["bash", "-c", f". {script}; env -0"], check=True, capture_output=True, text=True).stdout
    return dict(entry.split("=", 1) for entry in said.split("\0") if "=" in entry)


@dataclass
class Podman:
    """`pods` are those played and not yet removed, with their addresses."""

    directory: Path
    env: dict[str, str] = field(default_factory=environment)
    pods: dict[str, tuple[Pod, str]] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)

    def run(self, *arguments: str, text: str | None = None, check: bool = True, host_pid: bool = False) -> str:
        """What podman printed. `host_pid` is how a pod gets the node's processes: 4.3 passes over hostPID in a manifest."""
        env = self._with_host_pids() if host_pid else self.env
        done = subprocess.run([*LIMITED, "podman", *arguments], input=text, env=env, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def _with_host_pids(self) -> dict[str, str]:
        given = Path(self.env["CONTAINERS_CONF"])
        changed = given.with_name("containers-host-pid.conf")
        changed.write_text('[containers]\npidns = "host"\n' + given.read_text())
        return {**self.env, "CONTAINERS_CONF": str(changed)}

    def open(self) -> None:
        """An empty store of pods (what an earlier play left is removed) and the network."""
        self.run("pod", "rm", "--force", "--all", check=False)
        self.run("network", "rm", "-f", NETWORK, check=False)
        self.run(
            "network",
            "create",
            "--disable-dns",
            "--subnet",
            SUBNET,
            "--gateway",
            GATEWAY,
            NETWORK,
        )

    def play(self, pod: Pod, address: str) -> None:
        """Starts a pod; what it keeps from an earlier pod of the same name stays."""
        for path, owner in pod.owned.items():
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, owner, owner)
        for path, (data, mode, owner) in pod.files.items():
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_bytes(data)
            os.chown(fresh, owner, owner)
            fresh.chmod(mode)
            fresh.rename(path)
        where = ["--network", "host"] if pod.host_network else ["--network", NETWORK, "--ip", address]
        self.pods[pod.name] = (pod, address)
        self.run("kube", "play", "--quiet", *where, "-", text=yaml.safe_dump(pod.manifest), host_pid=pod.host_pid)

    def containers(self, pod: str) -> dict[str, int]:
        """The pids of a pod's running containers by their name in the manifest."""
        listed = json.loads(self.run("ps", "--format", "json", "--filter", f"pod={pod}"))
        return {c["Names"][0].removeprefix(f"{pod}-"): int(c["Pid"]) for c in listed if not c["IsInfra"]}

    def kill(self, pod: str, container: str) -> None:
        """SIGKILL, as a node that runs out of memory does it."""
        self.run("kill", "--signal", "KILL", f"{pod}-{container}")

    def restart(self, pod: str, container: str) -> None:
        """What the kubelet does for a container that died."""
        self.run("start", f"{pod}-{container}")

    def remove(self, pod: str, grace: int = 60) -> None:
        """Out of the Service's endpoints, the hooks that the manifest names, SIGTERM, the grace, SIGKILL, gone."""
        self.ending.add(pod)
        for container, command in self.pods[pod][0].pre_stop.items():
            self.run("exec", f"{pod}-{container}", *command, check=False)
        self.run("pod", "stop", "--time", str(grace), pod, check=False)
        self.run("pod", "rm", "--force", pod)
        self.pods.pop(pod, None)
        self.ending.discard(pod)

    def ready(self, name: str) -> bool:
        """Whether all containers of a pod pass their readiness probes."""
        pod, address = self.pods[name]
        return all(probe(url) == "ready" for url in probes_of(pod, address))

    def members(self, workload: str) -> list[Member]:
        """The pods of a workload that are not on their way out, as their probes find them."""
        found = [entry for name, entry in list(self.pods.items()) if name not in self.ending]
        return [
            Member(address, worst([probe(url) for url in probes_of(pod, address)]))
            for pod, address in found
            if pod.workload == workload
        ]

    def wait_ready(self, name: str, seconds: float = 120) -> None:
        until(lambda: self.ready(name), seconds, lambda: f"{name} is not ready:\n{self.logs(name)}")

    def logs(self, pod: str, lines: int = 30) -> str:
        return self.run("pod", "logs", "--tail", str(lines), pod, check=False)

    def close(self) -> None:
        for name in list(self.pods):
            self.remove(name, grace=5)
        self.run("network", "rm", "-f", NETWORK, check=False)
        shutil.rmtree(self.directory / "volumes", ignore_errors=True)


def probes_of(pod: Pod, address: str) -> list[str]:
    return [probe_address(probes["readinessProbe"], address) for probes in pod.probes.values()]


def probe(url: str) -> str:
    """ "ready", "unready" or "dead" (nothing listens)."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return "ready" if answer.status == 200 else "unready"
    except urllib.error.HTTPError:
        return "unready"
    except OSError as error:
        return "dead" if isinstance(getattr(error, "reason", error), ConnectionRefusedError) else "unready"


def worst(conditions: list[str]) -> str:
    return next((word for word in ("dead", "unready") if word in conditions), "ready")


def until(claim: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            raise RuntimeError(otherwise())
        time.sleep(0.1)
