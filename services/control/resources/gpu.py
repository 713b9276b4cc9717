"""Graphics cards: DRM nodes, NVIDIA's own, mediated devices, virtual functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine, without_empty

DRM = "sys/class/drm"
PCI = "sys/bus/pci/devices"
DISPLAY_CLASS = "0x03"  # of PCI devices


def read(machine: Machine) -> dict[str, Any]:
    functions = {
        machine.real(link) for place in machine.entries(PCI) for link in machine.entries(place, "virtfn[0-9]*")
    }
    cards = [_card(machine, place) for place in _devices(machine) if place not in functions]
    return {"cards": cards, "total": len(cards)}


def _devices(machine: Machine) -> Iterator[Path]:
    """Devices behind DRM cards, then display controllers that no driver made a card of. A device counts once."""
    found = [machine.real(place / "device") for place in machine.entries(DRM, "card[0-9]*") if _is_card(place)]
    found += [
        machine.real(place) for place in machine.entries(PCI) if machine.text(place / "class").startswith(DISPLAY_CLASS)
    ]
    yield from dict.fromkeys(found)


def _is_card(place: Path) -> bool:
    """card0 is a card, card0-HDMI-A-1 a connector."""
    return re.fullmatch(r"card\d+", place.name) is not None


def _card(machine: Machine, place: Path, nested: bool = False) -> dict[str, Any]:
    driver, version = machine.driver(place)
    on_pci = machine.target(place / "subsystem") == "pci"
    document: dict[str, Any] = {
        "driver": driver,
        "driver_version": version,
        "drm": _drm(machine, place),
        "sriov": None if nested else _sriov(machine, place),
        "nvidia": _nvidia(machine, place) if driver == "nvidia" else None,
        "mdev": {entry.name: _mdev(machine, entry) for entry in machine.entries(place / "mdev_supported_types")},
        "numa_node": machine.numa_node(place),
        "pci_address": place.name if on_pci else "",
        **(machine.pci_names(place) if on_pci else {}),
        "usb_address": machine.usb_address(place),
    }
    return without_empty(
        document, "driver", "driver_version", "drm", "sriov", "nvidia", "mdev", "pci_address", "vendor", "vendor_id", "product",
        "product_id", "usb_address",
    )  # fmt: skip


def _drm(machine: Machine, place: Path) -> dict[str, Any] | None:
    nodes = {re.sub(r"\d+$", "", node.name): node for node in machine.entries(place / "drm") if "-" not in node.name}
    if "card" not in nodes:
        return None
    document: dict[str, Any] = {
        "id": int(nodes["card"].name.removeprefix("card")),
        **_node(machine, nodes.get("card"), "card"),
        **_node(machine, nodes.get("controlD"), "control"),
        **_node(machine, nodes.get("renderD"), "render"),
    }
    return without_empty(document, "control_name", "control_device", "render_name", "render_device")


def _node(machine: Machine, place: Path | None, kind: str) -> dict[str, str]:
    return {f"{kind}_name": place.name if place else "", f"{kind}_device": machine.text(place / "dev") if place else ""}


def _sriov(machine: Machine, place: Path) -> dict[str, Any] | None:
    if not machine.exists(place / "sriov_totalvfs"):
        return None
    functions = [machine.real(link) for link in machine.entries(place, "virtfn[0-9]*")]
    return {
        "current_vfs": machine.number(place / "sriov_numvfs"),
        "maximum_vfs": machine.number(place / "sriov_totalvfs"),
        "vfs": [_card(machine, function, nested=True) for function in functions],
    }


def _mdev(machine: Machine, place: Path) -> dict[str, Any]:
    return {
        "api": machine.text(place / "device_api"),
        "available": machine.number(place / "available_instances"),
        "name": machine.text(place / "name"),
        "description": machine.text(place / "description"),
        "devices": [device.name for device in machine.entries(place / "devices")],
    }


def _nvidia(machine: Machine, place: Path) -> dict[str, Any] | None:
    """From the driver's own files; brand and CUDA's version are known only to tools that may be missing."""
    text = machine.text(f"proc/driver/nvidia/gpus/{place.name}/information")
    if not text:
        return None
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    version = re.search(r"Module\s+([0-9.]+)", machine.text("proc/driver/nvidia/version"))
    minor = fields.get("Device Minor", "")
    return {
        "nvrm_version": version[1] if version else "",
        "model": fields.get("Model", ""),
        "uuid": fields.get("GPU UUID", ""),
        **({"card_name": f"nvidia{minor}", "card_device": f"195:{minor}"} if minor else {}),
    }
