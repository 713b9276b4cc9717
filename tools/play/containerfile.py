"""Executes deploy/images/Containerfile where no registry is in reach: on a base made with mmdebstrap, under the name it asks for."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tools.play.podman import ROOT

TAG = "containerfile"
BASE = "localhost/debian:bookworm-slim"  # a short name is looked for there first, and --pull=never keeps it so
CERTIFICATES = ("/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt")


def build(environment: dict[str, str], part: str) -> str:
    """The image of a part, in the store of that environment; its name. Minutes the first time."""
    name = f"localhost/nubibus/{part}:{TAG}"
    if not _buildah(environment, "images", "--quiet", "--filter", f"reference={BASE}"):
        _make_base(environment)
    packages = " ".join(packages_of(part))
    _buildah(
        environment, "bud", "--pull=never", "--layers", "--file", ROOT / "deploy/images/Containerfile",
        "--build-arg", f"PART={part}", "--build-arg", f"PACKAGES={packages}", "--tag", name, ROOT,
    )  # fmt: skip
    return name


def packages_of(part: str) -> list[str]:
    lines = (ROOT / "deploy/images/packages").read_text().splitlines()
    return [package for line in lines if line.split()[:1] == [part] for package in line.split()[1:]]


def _make_base(environment: dict[str, str]) -> None:
    """Debian with apt, which trusts whom this machine trusts: a registry may be reached through a proxy of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        root = Path(scratch, "root.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--format=tar", "--variant=apt", "--include=ca-certificates", "bookworm", root], check=True
        )  # fmt: skip
        container = _buildah(environment, "from", "scratch")
        _buildah(environment, "add", "--quiet", container, root, "/")
    for path in filter(os.path.exists, CERTIFICATES):
        _buildah(environment, "copy", "--quiet", container, path, path)
    _buildah(environment, "commit", "--quiet", "--rm", container, BASE)


def _buildah(environment: dict[str, str], *arguments: str | Path) -> str:
    done = subprocess.run(
        ["buildah", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-2000:].strip()}")
    return done.stdout.strip()
