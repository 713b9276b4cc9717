"""The overlay `single` played on this machine: which pods there are, where they are reached, how they are replaced."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tools import cluster_secrets
from tools.play import debris
from tools.play.balancer import Balancer, Endpoints
from tools.play.client import Lxc, take_down
from tools.play.load import Remote
from tools.play.podman import Podman, until
from tools.play.translate import Node, Pod, Translation
from tools.render import render

OVERLAY = Path(__file__).resolve().parents[2] / "deploy/k8s/overlays/single"
HTTPS = 8443


@dataclass
class Deployment:
    """`directory` holds everything; nothing of it is outside but podman's network and what instances are."""

    directory: Path
    podman: Podman
    tag: str
    translation: Translation = field(init=False)
    endpoints: Endpoints = field(init=False)
    balancer: Balancer = field(init=False)
    image: str = ""  # one for all parts, instead of those of `tag`
    _address: int = 20

    def __post_init__(self) -> None:
        kept = self.directory / "secrets.yaml"
        kept.write_text(yaml.safe_dump_all(cluster_secrets.manifests({}, (self.nats,))))
        secrets = cluster_secrets.read(kept)
        secrets["nubibus-trust"] = {"play.crt": self._client_certificate()}
        node = Node(self.directory, self.podman.gateway)
        aliases = {"nats.nubibus.svc": self.nats, "nats": self.nats}
        self.translation = Translation(render(OVERLAY), secrets, node, aliases, self.image)
        self.endpoints = Endpoints(self.translation.patience("gateway"))
        self.balancer = Balancer((self.podman.gateway, HTTPS), self.gateways, HTTPS)

    @property
    def nats(self) -> str:
        return f"{self.podman.subnet}.10"

    def _client_certificate(self) -> bytes:
        certificate, key = self.directory / "client.crt", self.directory / "client.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-nodes", "-days", "30",
             "-subj", "/CN=play", "-keyout", key, "-out", certificate], check=True, capture_output=True,
        )  # fmt: skip
        return certificate.read_bytes()

    def open(self) -> None:
        """Everything that the overlay says, ready, in the network that podman has opened."""
        for workload in self.translation.workloads():
            for number in range(workload["spec"].get("replicas", 1)):
                self.start(workload["metadata"]["name"], number)
        for name in list(self.podman.pods):
            self.podman.wait_ready(name)
        self.balancer.start()

    def start(self, workload: str, number: int, tag: str | None = None) -> None:
        pod = self.pod(workload, number, tag)
        self.podman.play(pod[0], pod[1])

    def pod(self, workload: str, number: int, tag: str | None = None) -> tuple[Pod, str]:
        if workload == "nats":
            address = self.nats
        else:
            self._address += 1
            address = f"{self.podman.subnet}.{self._address}"
        pod = self.translation.pod(workload, number, address, tag or self.tag)
        return pod, self.podman.gateway if pod.host_network else address

    def gateways(self) -> list[str]:
        """The endpoints of the gateway's Service."""
        return self.endpoints.of(self.podman.members("gateway"))

    def remote(self) -> Remote:
        return Remote.of(
            self.podman.gateway, HTTPS, str(self.directory / "client.crt"), str(self.directory / "client.key")
        )

    def lxc(self) -> Lxc:
        """Debian's client, which trusts the deployment and is trusted."""
        url = f"https://{self.podman.gateway}:{HTTPS}"
        return Lxc.of(self.directory / "lxc", self.directory / "client.crt", self.directory / "client.key", url)

    def roll(self, workload: str, tag: str) -> None:
        """A rolling change to another image: with a surge where the workload has replicas, one after the other where not."""
        numbers = [n for n in range(10) if f"{workload}-{n}" in self.podman.pods]
        for number in numbers:
            if len(numbers) > 1:
                spare = 10 + number
                self.start(workload, spare, tag)
                self.podman.wait_ready(f"{workload}-{spare}")
                self.podman.remove(f"{workload}-{number}")
            else:
                self.podman.remove(f"{workload}-{number}")
                self.start(workload, number, tag)
                self.podman.wait_ready(f"{workload}-{number}")

    def kill(self, pod: str, container: str) -> None:
        """SIGKILL, then what the kubelet does; returns when the pod is ready again."""
        before = self.podman.containers(pod)[container]
        self.podman.kill(pod, container)
        until(lambda: container not in self.podman.containers(pod), 20, lambda: f"{pod}-{container} does not die")
        self.podman.restart(pod, container)
        until(
            lambda: self.podman.containers(pod).get(container, before) != before, 20, lambda: f"{container} stays away"
        )
        self.podman.wait_ready(pod)

    def close(self) -> None:
        """Nothing stays, not even of a deployment that no longer answers."""
        with contextlib.suppress(Exception):
            take_down(self.remote())
        self.balancer.stop()
        debris.end_instances(self.directory)
        self.podman.close()
        debris.end_network()
        debris.end_cgroups()
        subprocess.run(["umount", "-R", "-l", self.directory], capture_output=True)
