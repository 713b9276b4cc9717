"""The hardware of a member, as `/1.0/resources` shows it: read from /sys and /proc at every call, nothing is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.control.resources import cpu, gpu, memory, network, pci, storage, system, usb
from services.control.resources.machine import Machine


def read(root: Path = Path("/")) -> dict[str, Any]:
    """The whole document. Blocks for some milliseconds."""
    machine = Machine(root)
    return {
        "cpu": cpu.read(machine),
        "memory": memory.read(machine),
        "gpu": gpu.read(machine),
        "network": network.read(machine),
        "storage": storage.read(machine),
        "usb": usb.read(machine),
        "pci": pci.read(machine),
        "system": system.read(machine),
    }
