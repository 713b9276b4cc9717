"""The Kubernetes manifests are valid for every version that we name, and say what they must."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tools.render import Manifest, identity, render

OVERLAYS = Path(__file__).parents[3] / "deploy/k8s/overlays"
VERSIONS = [f"1.{minor}" for minor in range(25, 38)]
PRIVILEGED = {"instances", "storage"}


@pytest.fixture(params=["single", "cluster"])
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pods(manifests: list[Manifest]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (m["metadata"]["name"], m["spec"]["template"]["spec"]) for m in manifests if "template" in m.get("spec", {})
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_strictly_valid(overlay: str, version: str) -> None:
    for manifest in render(OVERLAYS / overlay):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_renderer_says_what_kustomize_says(overlay: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, whose kustomize the renderer is compared with, is not on this machine")
    said = subprocess.run(["kubectl", "kustomize", OVERLAYS / overlay], check=True, capture_output=True).stdout
    theirs = {identity(m): m for m in yaml.safe_load_all(said)}
    ours = {identity(m): m for m in render(OVERLAYS / overlay)}
    assert ours == theirs


def test_no_part_holds_a_token_of_the_cluster(overlay: str) -> None:
    for name, pod in pods(render(OVERLAYS / overlay)):
        assert pod["automountServiceAccountToken"] is False, name


def test_only_the_parts_that_mount_for_instances_are_privileged(overlay: str) -> None:
    for _, pod in pods(render(OVERLAYS / overlay)):
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights.get("privileged", False) == (container["name"] in PRIVILEGED)
            assert rights["readOnlyRootFilesystem"] is True
            if container["name"] not in PRIVILEGED:
                assert rights["allowPrivilegeEscalation"] is False
                assert rights["capabilities"]["drop"] == ["ALL"]


def test_the_gateway_runs_without_root_and_reaches_no_host_path(overlay: str) -> None:
    gateway = dict(pods(render(OVERLAYS / overlay)))["gateway"]
    assert gateway["securityContext"]["runAsNonRoot"] is True
    assert not any("hostPath" in volume for volume in gateway["volumes"])
    assert "add" not in gateway["containers"][0]["securityContext"]["capabilities"]


def test_every_container_has_the_three_probes_and_a_memory_bound(overlay: str) -> None:
    for _, pod in pods(render(OVERLAYS / overlay)):
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


def test_traffic_is_denied_unless_a_policy_names_it(overlay: str) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in render(OVERLAYS / overlay) if m["kind"] == "NetworkPolicy"}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert {"nats", "gateway", "control", "images"} <= set(policies)


def test_the_cluster_keeps_the_log_three_times() -> None:
    manifests = {identity(m): m for m in render(OVERLAYS / "cluster")}
    assert manifests["StatefulSet", "nats"]["spec"]["replicas"] == 3
    assert manifests["ConfigMap", "nubibus"]["data"]["NUBIBUS_REPLICAS"] == "3"
    assert manifests["PodDisruptionBudget", "nats"]["spec"]["minAvailable"] == 2
