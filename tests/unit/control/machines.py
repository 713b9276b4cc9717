"""Machines that are made of files: what /sys and /proc would hold, below a root of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

from services.control.resources.machine import Machine


class Tree:
    """A root with files and the relative links that /sys has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = Machine(root)

    def files(self, folder: str, **texts: str) -> Path:
        """Underscores before a name stand for nothing: names that begin with a digit or hold a dot go through `file`."""
        for name, text in texts.items():
            self.file(f"{folder}/{name}", text)
        place = self.root / folder
        place.mkdir(parents=True, exist_ok=True)
        return place

    def file(self, path: str, text: str | bytes) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())

    def link(self, path: str, target: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (self.root / target).mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(self.root / target, place.parent))

    def pci(self, address: str, driver: str = "", **texts: str) -> str:
        """A device on the PCI bus; its path."""
        path = f"sys/devices/pci0000:00/{address}"
        self.files(path, **{"numa_node": "-1", "vendor": "0x8086", "device": "0x10fb", **texts})
        self.link(f"sys/bus/pci/devices/{address}", path)
        self.link(f"{path}/subsystem", "sys/bus/pci")
        if driver:
            self.link(f"{path}/driver", f"sys/bus/pci/drivers/{driver}")
        return path

    def usb(self, name: str, bus: int, number: int, **texts: str) -> str:
        path = f"sys/devices/pci0000:00/0000:00:14.0/usb1/{name}"
        self.files(path, busnum=str(bus), devnum=str(number), **texts)
        self.link(f"sys/bus/usb/devices/{name}", path)
        self.link(f"{path}/subsystem", "sys/bus/usb")
        return path
