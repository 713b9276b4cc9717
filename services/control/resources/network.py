"""Network cards, their ports and virtual functions."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from services.control.resources import ethtool
from services.control.resources.machine import Machine, without_empty

NET = "sys/class/net"
PCI = "sys/bus/pci/devices"
NETWORK_CLASS = "0x02"  # of PCI devices
PROTOCOLS = {1: "ethernet", 19: "ATM", 32: "infiniband"}
Ports = dict[Path, list[Path]]


def read(machine: Machine) -> dict[str, Any]:
    ports = _ports(machine)
    functions = {
        machine.real(link) for place in machine.entries(PCI) for link in machine.entries(place, "virtfn[0-9]*")
    }
    bare = [
        machine.real(place) for place in machine.entries(PCI) if machine.text(place / "class").startswith(NETWORK_CLASS)
    ]
    cards = [place for place in dict.fromkeys([*ports, *bare]) if place not in functions]
    shown = [_card(machine, place, ports) for place in cards]
    return {"cards": shown, "total": len(shown)}


def _ports(machine: Machine) -> Ports:
    """Interfaces with hardware behind them, by the device that carries them (PCI, else USB or what there is)."""
    found: Ports = defaultdict(list)
    for place in machine.entries(NET):
        if machine.exists(place / "device"):
            device = place / "device"
            found[machine.pci_of(device) or machine.real(device)].append(place)
    return found


def _card(machine: Machine, place: Path, ports: Ports, nested: bool = False) -> dict[str, Any]:
    own = ports.get(place, [])
    inner = own[0] / "device" if own else place  # virtio's own device stands between the interface and the PCI device
    driver, version = machine.driver(inner)
    on_pci = machine.target(place / "subsystem") == "pci"
    document: dict[str, Any] = {
        "driver": driver,
        "driver_version": version,
        "ports": [_port(machine, port) for port in own],
        "sriov": None if nested else _sriov(machine, place, ports),
        "numa_node": machine.numa_node(place),
        "pci_address": place.name if on_pci else "",
        **(machine.pci_names(place) if on_pci else {}),
        "firmware_version": ethtool.firmware(machine.ask, own[0].name) if own else "",
        "usb_address": machine.usb_address(place),
    }
    return without_empty(
        document, "driver", "driver_version", "ports", "sriov", "pci_address", "vendor", "vendor_id", "product", "product_id",
        "firmware_version", "usb_address",
    )  # fmt: skip


def _sriov(machine: Machine, place: Path, ports: Ports) -> dict[str, Any] | None:
    if not machine.exists(place / "sriov_totalvfs"):
        return None
    functions = [machine.real(link) for link in machine.entries(place, "virtfn[0-9]*")]
    return {
        "current_vfs": machine.number(place / "sriov_numvfs"),
        "maximum_vfs": machine.number(place / "sriov_totalvfs"),
        "vfs": [_card(machine, function, ports, nested=True) for function in functions],
    }


def _port(machine: Machine, place: Path) -> dict[str, Any]:
    link = ethtool.link(machine.ask, place.name)
    speed = machine.number(place / "speed", default=-1)
    document: dict[str, Any] = {
        "id": place.name,
        "address": machine.text(place / "address"),
        "port": machine.number(place / "dev_port") or machine.number(place / "dev_id", base=16),
        "protocol": PROTOCOLS.get(machine.number(place / "type"), "unknown"),
        "supported_modes": list(link.modes),
        "supported_ports": list(link.ports),
        "port_type": link.port,
        "transceiver_type": link.transceiver,
        "auto_negotiation": link.auto_negotiation,
        "link_detected": machine.number(place / "carrier") == 1,
        "link_speed": max(0, speed),
        "link_duplex": {"full": "full", "half": "half"}.get(machine.text(place / "duplex"), ""),
        "infiniband": _infiniband(machine, place),
    }
    return without_empty(
        document,
        "supported_modes",
        "supported_ports",
        "port_type",
        "transceiver_type",
        "link_speed",
        "link_duplex",
        "infiniband",
    )


def _infiniband(machine: Machine, place: Path) -> dict[str, str] | None:
    """Character devices that belong to the port."""
    if machine.number(place / "type") != 32:
        return None
    found: dict[str, str] = {}
    wanted = machine.number(place / "dev_port") + 1
    for kind, folder, pattern in (
        ("issm", "infiniband_mad", "issm*"),
        ("mad", "infiniband_mad", "umad*"),
        ("verb", "infiniband_verbs", "uverbs*"),
    ):
        for entry in machine.entries(place / "device" / folder, pattern):
            if kind == "verb" or machine.number(entry / "port", default=1) == wanted:
                found[f"{kind}_name"] = entry.name
                found[f"{kind}_device"] = machine.text(entry / "dev")
                break
    return found
