"""Renders a kustomize overlay of deploy/k8s without kustomize: `resources`, `namespace` and strategic-merge `patches`.

That is all our overlays use. tests/unit/deploy compares the result with `kubectl kustomize` where a kubectl is at hand.
Usage: python -m tools.render deploy/k8s/overlays/single
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches"}
# Lists of maps that Kubernetes merges by a key instead of replacing (of those that our patches touch).
MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}


def render(folder: Path) -> list[Manifest]:
    """The manifests of an overlay or base, in the order of its resources.

    Raises ValueError for a kustomization field that this renderer does not know, and for a patch that fits nothing.
    """
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(kustomization) - KNOWN
    if unknown:
        raise ValueError(f"{folder}/kustomization.yaml: unknown fields {sorted(unknown)}")
    manifests: list[Manifest] = []
    for resource in kustomization.get("resources", []):
        path = (folder / resource).resolve()
        manifests += render(path) if path.is_dir() else documents(path)
    for patch in kustomization.get("patches", []):
        for change in documents(folder / patch["path"]):
            _patch(manifests, change)
    if namespace := kustomization.get("namespace"):
        for manifest in manifests:
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = namespace
    return manifests


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _patch(manifests: list[Manifest], change: Manifest) -> None:
    for index, manifest in enumerate(manifests):
        if identity(manifest) == identity(change):
            manifests[index] = merge(manifest, change)
            return
    raise ValueError(f"patch for {identity(change)} fits no resource")


def merge(base: Manifest, change: Manifest) -> Manifest:
    """A strategic merge: maps merge, a null removes, lists of MERGE_KEYS merge by key, other lists are replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and key in MERGE_KEYS:
            merged[key] = _merge_lists(old, value, MERGE_KEYS[key])
        else:
            merged[key] = value
    return merged


def _merge_lists(base: list[Manifest], change: list[Manifest], key: str) -> list[Manifest]:
    changes = {item[key]: item for item in change}
    merged = [merge(item, changes.pop(item[key], {})) for item in base]
    return merged + list(changes.values())


if __name__ == "__main__":
    yaml.safe_dump_all(render(Path(sys.argv[1])), sys.stdout, sort_keys=False)
