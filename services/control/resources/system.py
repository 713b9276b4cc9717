"""The machine as its firmware describes it (DMI)."""

from __future__ import annotations

import re
from typing import Any

from services.control.resources.machine import Machine

DMI = "sys/class/dmi/id"
# SMBIOS 3.6, table 17.
CHASSIS = dict(
    enumerate(
        (
            "Other", "Unknown", "Desktop", "Low Profile Desktop", "Pizza Box", "Mini Tower", "Tower", "Portable", "Laptop",
            "Notebook", "Hand Held", "Docking Station", "All In One", "Sub Notebook", "Space-saving", "Lunch Box",
            "Main Server Chassis", "Expansion Chassis", "Sub Chassis", "Bus Expansion Chassis", "Peripheral Chassis",
            "RAID Chassis", "Rack Mount Chassis", "Sealed-case PC", "Multi-system", "CompactPCI", "AdvancedTCA", "Blade",
            "Blade Enclosing", "Tablet", "Convertible", "Detachable", "IoT Gateway", "Embedded PC", "Mini PC", "Stick PC",
        ),
        start=1,
    )
)  # fmt: skip


def read(machine: Machine) -> dict[str, Any]:
    def dmi(name: str) -> str:
        return machine.text(f"{DMI}/{name}")

    known = machine.exists(DMI)
    return {
        "uuid": dmi("product_uuid"),
        "vendor": dmi("sys_vendor"),
        "product": dmi("product_name"),
        "family": dmi("product_family"),
        "version": dmi("product_version"),
        "sku": dmi("product_sku"),
        "serial": dmi("product_serial"),
        "type": _type(machine),
        "firmware": {"vendor": dmi("bios_vendor"), "date": dmi("bios_date"), "version": dmi("bios_version")}
        if known
        else None,
        "chassis": {
            "vendor": dmi("chassis_vendor"),
            "type": CHASSIS.get(machine.number(f"{DMI}/chassis_type"), ""),
            "serial": dmi("chassis_serial"),
            "version": dmi("chassis_version"),
        }
        if known
        else None,
        "motherboard": {
            "vendor": dmi("board_vendor"),
            "product": dmi("board_name"),
            "serial": dmi("board_serial"),
            "version": dmi("board_version"),
        }
        if known
        else None,
    }


def _type(machine: Machine) -> str:
    if machine.exists("run/systemd/container") or "container=" in machine.text("proc/1/environ"):
        return "container"
    if re.search(r"^flags\s*:.*\bhypervisor\b", machine.text("proc/cpuinfo"), re.MULTILINE):
        return "virtual-machine"
    return "physical"
