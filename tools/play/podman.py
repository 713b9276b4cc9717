"""Runs pods with podman, in a store and a network of the play's own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools.play.balancer import Member
from tools.play.translate import Pod, probe_address

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path("/var/tmp/nubibus-play.lock")
# runc may not raise limits again on a machine without CAP_SYS_RESOURCE: podman starts with what a container gets.
LIMITED = ["prlimit", "--nproc=30000:30000"]


def environment(store: str) -> dict[str, str]:
    """The environment that deploy/images/storage.sh makes of a directory for images and containers."""
    script = ROOT / "deploy/images/storage.sh"
    said = subprocess.run(
        ["bash", "-c", f". {script}; env -0"], env={**os.environ, "NUBIBUS_OCI": store}, check=True, capture_output=True, text=True
    )  # fmt: skip
    return dict(entry.split("=", 1) for entry in said.stdout.split("\0") if "=" in entry)


@dataclass
class Podman:
    """`pods` are those played and not yet removed, with their addresses; `subnet` is "a.b.c", of which .1 is the machine."""

    directory: Path
    store: str = "/var/tmp/nubibus-oci"
    network: str = "nubibus"
    subnet: str = "198.18.201"
    pods: dict[str, tuple[Pod, str]] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    bridge: str = ""  # the link of the network, once that is made
    past: list[tuple[str, str]] = field(default_factory=list)  # what containers that were removed had written

    def __post_init__(self) -> None:
        self.env = environment(self.store)

    @property
    def gateway(self) -> str:
        """Where pods that share the machine's network are reached."""
        return f"{self.subnet}.1"

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

    @staticmethod
    @contextmanager
    def alone() -> Iterator[None]:
        """One play at a time on a machine: what instances leave in the kernel bears the same names in all."""
        with LOCK.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def clear(self) -> None:
        """Removes what an earlier play left."""
        self.run("pod", "rm", "--force", "--all", check=False)
        self.run("network", "rm", "-f", self.network, check=False)

    def open(self) -> None:
        """The network. It is internal, which spares the machine a firewall of podman's."""
        self.run(
            "network", "create", "--disable-dns", "--internal", "--subnet", f"{self.subnet}.0/24", "--gateway", self.gateway,
            self.network,
        )  # fmt: skip
        self.bridge = self.run("network", "inspect", self.network, "--format", "{{.NetworkInterface}}").strip()

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
        where = ["--network", "host"] if pod.host_network else ["--network", self.network, "--ip", address]
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
        """Out of the Service's endpoints, the hooks that the manifest names, SIGTERM, the grace, SIGKILL, gone.

        The containers first and the pod when they have ended, as the kubelet does it: `podman pod stop` takes away the network meanwhile.
        """
        self.ending.add(pod)
        for container, command in self.pods[pod][0].pre_stop.items():
            self.run("exec", f"{pod}-{container}", *command, check=False)
        self.run("stop", "--time", str(grace), *self._own(pod), check=False)
        self.past += self._journals(pod)
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

    def wait_ready(self, name: str, seconds: float = 240) -> None:
        until(lambda: self.ready(name), seconds, lambda: f"{name} is not ready:\n{self.logs(name)}")

    def said(self, container: str) -> str:
        """All that a container has written."""
        command = [*LIMITED, "podman", "logs", container]
        return subprocess.run(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def journals(self) -> list[tuple[str, str]]:
        """(container, all that it has written), of those that there are and those that were removed."""
        return [*self.past, *(found for pod in list(self.pods) for found in self._journals(pod))]

    def _journals(self, pod: str) -> list[tuple[str, str]]:
        return [(container, self.said(container)) for container in self._own(pod)]

    def _own(self, pod: str) -> list[str]:
        """The containers that the manifest names, running or not."""
        listed = json.loads(self.run("ps", "--all", "--format", "json", "--filter", f"pod={pod}"))
        return [str(c["Names"][0]) for c in listed if not c["IsInfra"]]

    def logs(self, pod: str, lines: int = 30) -> str:
        return self.run("pod", "logs", "--tail", str(lines), pod, check=False)

    def close(self) -> None:
        """No pod and no network any more; images stay."""
        if self.pods:
            self.run("pod", "rm", "--force", "--time", "5", *self.pods, check=False)
        self.run("network", "rm", "-f", self.network, check=False)


def remove_store(store: Path) -> None:
    """Images too. podman keeps a mount of the store on itself."""
    subprocess.run(["umount", "--recursive", store / "store/overlay"], capture_output=True)
    shutil.rmtree(store)


def probes_of(pod: Pod, address: str) -> list[str]:
    return [probe_address(probes["readinessProbe"], address) for probes in pod.probes.values()]


def probe(url: str) -> str:
    """ "ready", "unready" or "dead" (nothing listens)."""
    try:
        return "ready" if answer_of(url)[0] == 200 else "unready"
    except ConnectionRefusedError:
        return "dead"


def answer_of(url: str) -> tuple[int, str]:
    """Status and text of a GET; (0, "") if nothing came in time. ConnectionRefusedError if nothing listens."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            raise error.reason from None
        return 0, ""
    except OSError:
        return 0, ""


def worst(conditions: list[str]) -> str:
    return next((word for word in ("dead", "unready") if word in conditions), "ready")


def until(claim: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > end:
            raise RuntimeError(otherwise())
        time.sleep(0.1)
