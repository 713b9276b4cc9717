"""From the manifests of an overlay to pods that `podman kube play` of 4.3 understands.

What is translated, and why:
- Deployment, StatefulSet, DaemonSet: their pod templates become pods, one a replica (podman knows no StatefulSet and
  no DaemonSet, and scaling and rolling changes are what the play itself does);
- emptyDir and volume claims: host paths below the play's directory, owned as fsGroup says (podman 4.3 has neither);
- the node's /var/lib/nubibus: a directory of the play's, so that a server of the machine's own is left alone;
- Secrets: host paths too, with the mode that the manifest gives (4.3 cannot read a Secret manifest);
- fieldRef and $(NAME) in environment values: their values (podman resolves neither);
- names of Services: hostAliases, for there is no Service;
- probes and hooks: left out of the pod and done by the play as the manifest says them (podman would run curl in the
  container, and knows no preStop);
- Service, NetworkPolicy, PodDisruptionBudget, ServiceAccount, Namespace: nothing of podman's.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.render import Manifest

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet"}
STATE = "/var/lib/nubibus"
REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")


@dataclass(frozen=True)
class Node:
    """The machine as the one node: `directory` holds what pods keep, `address` is where host-network pods are."""

    directory: Path
    address: str
    name: str = "node1"


@dataclass
class Pod:
    """One pod to play. `owned` are directories to make, with the id that owns them; `files` what Secrets put there."""

    name: str
    workload: str
    manifest: Manifest
    host_network: bool
    host_pid: bool
    probes: dict[str, dict[str, Manifest]]
    owned: dict[Path, int] = field(default_factory=dict)
    files: dict[Path, tuple[bytes, int, int]] = field(default_factory=dict)
    pre_stop: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Translation:
    """Translates pods of one overlay. `secrets` by name, decoded; `addresses` of pods by name, drawn beforehand."""

    manifests: list[Manifest]
    secrets: dict[str, dict[str, bytes]]
    node: Node
    aliases: dict[str, str]
    image: str = ""  # one image that serves as every part's, if it is given

    def config_maps(self) -> dict[str, dict[str, str]]:
        return {m["metadata"]["name"]: m["data"] for m in self.manifests if m["kind"] == "ConfigMap"}

    def workloads(self) -> Iterator[Manifest]:
        return (m for m in self.manifests if m["kind"] in WORKLOADS)

    def pod(self, workload: str, number: int, address: str, tag: str) -> Pod:
        """Pod `number` of a workload, with images of `tag`, reachable at `address`."""
        manifest = next(m for m in self.workloads() if m["metadata"]["name"] == workload)
        spec = copy.deepcopy(manifest["spec"]["template"]["spec"])
        name = f"{workload}-{number}"
        host = bool(spec.get("hostNetwork"))
        pod = Pod(name, workload, {}, host, bool(spec.get("hostPID")), {})
        fields = {
            "metadata.name": name,
            "spec.nodeName": self.node.name,
            "status.podIP": self.node.address if host else address,
        }
        for container in spec["containers"]:
            self._image(container, tag)
            pod.probes[container["name"]] = {
                key: self._probe(container, container.pop(key))
                for key in ("startupProbe", "readinessProbe", "livenessProbe")
            }
            if hook := container.pop("lifecycle", {}).get("preStop"):
                pod.pre_stop[container["name"]] = hook["exec"]["command"]
            container["env"] = self._environment(container, fields)
            container.pop("envFrom", None)
            container.pop("ports", None)
            self._rights(container, spec)
        self._volumes(pod, spec, manifest)
        for unknown in (
            "topologySpreadConstraints",
            "serviceAccountName",
            "tolerations",
            "nodeSelector",
            "dnsPolicy",
            "affinity",
        ):
            spec.pop(unknown, None)
        spec.pop("securityContext", None)
        spec["hostAliases"] = [{"ip": ip, "hostnames": [alias]} for alias, ip in self.aliases.items()]
        pod.manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"workload": workload}},
            "spec": spec,
        }
        return pod

    def _image(self, container: Manifest, tag: str) -> None:
        if not self.image:
            container["image"] = container["image"].rsplit(":", 1)[0] + f":{tag}"
            return
        container["image"] = self.image
        started = ["/usr/bin/python3", "-m", f"services.{container['name']}"]
        container["command"] = ["/usr/bin/nats-server"] if container["name"] == "nats" else started

    def patience(self, workload: str) -> float:
        """Seconds after which a pod that answers "not ready" gets no new connections."""
        manifest = next(m for m in self.workloads() if m["metadata"]["name"] == workload)
        probe = manifest["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
        return float(probe["periodSeconds"] * probe["failureThreshold"])

    def _probe(self, container: Manifest, probe: Manifest) -> Manifest:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        get = probe["httpGet"]
        return {**probe, "httpGet": {**get, "port": ports.get(get["port"], get["port"])}}

    def _environment(self, container: Manifest, fields: dict[str, str]) -> list[Manifest]:
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            values.update(self.config_maps()[source["configMapRef"]["name"]])
        for entry in container.get("env", []):
            values[entry["name"]] = self._value(entry, fields)
        if fields["status.podIP"] == self.node.address:  # podman writes no /etc/hosts for the host's network
            for alias, ip in self.aliases.items():
                values = {name: value.replace(f"//{alias}:", f"//{ip}:") for name, value in values.items()}
        resolved = {name: REFERENCE.sub(lambda m: values.get(m[1], m[0]), value) for name, value in values.items()}
        return [{"name": name, "value": value} for name, value in resolved.items()]

    def _value(self, entry: Manifest, fields: dict[str, str]) -> str:
        if "value" in entry:
            return str(entry["value"])
        source = entry["valueFrom"]
        if "fieldRef" in source:
            return fields[source["fieldRef"]["fieldPath"]]
        reference = source["secretKeyRef"]
        return self.secrets[reference["name"]][reference["key"]].decode()

    def _rights(self, container: Manifest, spec: Manifest) -> None:
        """A pod's user and group are said on each container, as podman wants them."""
        for key in ("runAsUser", "runAsGroup"):
            if key in spec.get("securityContext", {}):
                container["securityContext"][key] = spec["securityContext"][key]

    def _volumes(self, pod: Pod, spec: Manifest, manifest: Manifest) -> None:
        owner = spec.get("securityContext", {}).get("fsGroup", 0)
        claims = [
            {"name": c["metadata"]["name"], "claim": True} for c in manifest["spec"].get("volumeClaimTemplates", [])
        ]
        volumes = []
        for volume in [*spec.get("volumes", []), *claims]:
            if "hostPath" in volume:
                volumes.append(self._of_the_node(pod, volume))
                continue
            path = self.node.directory / "volumes" / pod.name / volume["name"]
            pod.owned[path] = owner
            self._fill(pod, volume, path, owner)
            volumes.append({"name": volume["name"], "hostPath": {"path": str(path), "type": "Directory"}})
        spec["volumes"] = volumes

    def _of_the_node(self, pod: Pod, volume: Manifest) -> Manifest:
        """Paths of the node stay, but for Nubibus' own directory, which is the play's."""
        if volume["hostPath"]["path"] != STATE:
            return volume
        path = self.node.directory / "node"
        pod.owned[path] = 0
        return {"name": volume["name"], "hostPath": {"path": str(path), "type": "Directory"}}

    def _fill(self, pod: Pod, volume: Manifest, path: Path, owner: int) -> None:
        if "secret" in volume:
            mode = volume["secret"].get("defaultMode", 0o644)
            for key, value in self.secrets[volume["secret"]["secretName"]].items():
                pod.files[path / key] = (value, mode, owner)
        elif "configMap" in volume:
            for key, text in self.config_maps()[volume["configMap"]["name"]].items():
                pod.files[path / key] = (text.encode(), 0o644, owner)


def probe_address(probe: dict[str, Any], address: str) -> str:
    get = probe["httpGet"]
    return f"http://{address}:{get['port']}{get['path']}"
