"""Reading /sys and /proc below a root: the real one, or a tree of files that a test made.

A file that is not there, cannot be read or holds nonsense reads as empty or as the default: hardware is described as far as it tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from services.control.resources.ethtool import Ask, ask_driver

SUFFIXES = {"K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass
class Machine:
    """All paths are relative to the root, with or without a leading slash."""

    root: Path = Path("/")
    ids: dict[str, str] | None = field(default=None, repr=False)
    drivers: Ask | None = field(default=None, repr=False)

    def ask(self, link: str, command: bytes) -> bytes | None:
        """The driver of a link; of a tree of files only what a test answers for it."""
        asked = self.drivers or (ask_driver if self.root == Path("/") else None)
        return asked(link, command) if asked else None

    def path(self, path: str | Path) -> Path:
        text = str(path)
        return Path(text) if text.startswith(str(self.root) + "/") else self.root / text.lstrip("/")

    def text(self, path: str | Path) -> str:
        try:
            return self.path(path).read_text(errors="replace").strip().strip("\0")
        except (OSError, ValueError):
            return ""

    def number(self, path: str | Path, default: int = 0, base: int = 10) -> int:
        """A whole number, also with a suffix ("32K") or as hexadecimal ("0x8086", base 16)."""
        text = self.text(path)
        with suppress(ValueError, IndexError):
            if text[-1] in SUFFIXES:
                return int(text[:-1]) * SUFFIXES[text[-1]]
            return int(text, base)
        return default

    def exists(self, path: str | Path) -> bool:
        return self.path(path).exists()

    def real(self, path: str | Path) -> Path:
        """Where links lead. Links in a test's tree are relative, as they are in /sys."""
        return self.path(path).resolve()

    def target(self, path: str | Path) -> str:
        """The last name that a link points to; empty if there is no link."""
        try:
            return os.path.basename(os.readlink(self.path(path)))
        except OSError:
            return ""

    def entries(self, path: str | Path, pattern: str = "*") -> list[Path]:
        """What matches below a folder, numbers within names in their order."""
        with suppress(OSError):
            return sorted(self.path(path).glob(pattern), key=lambda found: natural(found.name))
        return []

    def numbers(self, path: str | Path) -> set[int]:
        """A list like "0-2,7"."""
        found: set[int] = set()
        for part in self.text(path).split(","):
            first, _, last = part.partition("-")
            if first.isdecimal():
                found.update(range(int(first), int(last or first) + 1))
        return found

    # What devices have in common.

    def driver(self, device: Path) -> tuple[str, str]:
        """Name and version of a device's driver; the kernel's version for a driver without its own."""
        name = self.target(device / "driver")
        if not name:
            return "", ""
        module = self.target(device / "driver" / "module") or name
        return name, self.text(f"sys/module/{module}/version") or self.release()

    def release(self) -> str:
        return self.text("proc/sys/kernel/osrelease")

    def numa_node(self, device: Path) -> int:
        return max(0, self.number(device / "numa_node"))

    def pci_of(self, device: str | Path) -> Path | None:
        """The PCI device that a device hangs on, itself included."""
        for place in self._above(device):
            if self.target(place / "subsystem") == "pci":
                return place
        return None

    def usb_address(self, device: str | Path) -> str:
        """ "1:4" for what hangs on USB, else empty."""
        for place in self._above(device):
            if self.exists(place / "busnum") and self.exists(place / "devnum"):
                return f"{self.number(place / 'busnum')}:{self.number(place / 'devnum')}"
        return ""

    def _above(self, device: str | Path) -> Iterator[Path]:
        real = self.real(device)
        top = self.path("sys").resolve()
        for place in (real, *real.parents):
            if not place.is_relative_to(top):
                return
            yield place

    def pci_names(self, device: Path) -> dict[str, str]:
        """Ids of vendor and product, and their names if pci.ids is installed."""
        vendor = self.text(device / "vendor").removeprefix("0x")
        product = self.text(device / "device").removeprefix("0x")
        if self.ids is None:
            self.ids = self._read_ids()
        return {
            "vendor": self.ids.get(vendor, ""),
            "vendor_id": vendor,
            "product": self.ids.get(f"{vendor}:{product}", ""),
            "product_id": product,
        }

    def _read_ids(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for place in ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids"):
            vendor = ""
            for line in self.text(place).splitlines():
                if match := re.match(r"([0-9a-f]{4})  (.+)", line):
                    vendor = match[1]
                    found[vendor] = match[2]
                elif vendor and (match := re.match(r"\t([0-9a-f]{4})  (.+)", line)):
                    found[f"{vendor}:{match[1]}"] = match[2]
            if found:
                break
        return found


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key by which cpu2 comes before cpu10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def without_empty(document: dict[str, object], *names: str) -> dict[str, object]:
    """Leaves out those of the names that say nothing, as LXD's JSON does."""
    return {name: value for name, value in document.items() if value or name not in names}
