"""Files out of Debian packages that are not installed: fetched by apt when first needed, kept in .cache/debian."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.conformance.servers import ROOT


def borrowed(package: str, *members: str) -> Path:
    """A folder with these files (tar's wildcards) of a package. Skips the test when no Debian mirror gives it."""
    folder = ROOT / ".cache" / "debian" / package
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as scratch:
            fetch = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
            done = subprocess.run(fetch, cwd=scratch, capture_output=True, text=True, timeout=180, check=False)
            if done.returncode != 0:
                pytest.skip(f"Debian does not give us {package}: {done.stderr[-300:]}")
            out = Path(scratch, "out")
            out.mkdir()
            archive = next(Path(scratch).glob("*.deb"))
            take = f'dpkg-deb --fsys-tarfile "$0" | tar -x -C "{out}" --wildcards "$@"'
            subprocess.run(["bash", "-o", "pipefail", "-c", take, str(archive), *members], check=True, timeout=180)
            out.rename(folder)
    return folder
