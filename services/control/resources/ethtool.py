"""What only the driver knows of a link, asked by ioctl (linux/ethtool.h)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

Ask = Callable[[str, bytes], bytes | None]
"""Name of a link, structure with a command -> the structure as the driver filled it in; None if it refuses."""

SIOCETHTOOL = 0x8946
GSET, GDRVINFO = 0x00000001, 0x00000003
COMMAND = struct.Struct("IIIHBBBBBIIHBBI2I")  # struct ethtool_cmd
DRIVER_INFO = 196  # bytes of struct ethtool_drvinfo
FIRMWARE = slice(68, 100)
PORTS = {
    0: "twisted pair",
    1: "AUI",
    2: "media-independent",
    3: "fibre",
    4: "BNC",
    5: "direct attach",
    0xEF: "none",
    0xFF: "other",
}
TRANSCEIVERS = {0: "internal", 1: "external"}
# Bits of the first word of supported link modes; 6 and up to 11 are autonegotiation and kinds of port.
MODES = {
    0: "10baseT/Half", 1: "10baseT/Full", 2: "100baseT/Half", 3: "100baseT/Full", 4: "1000baseT/Half", 5: "1000baseT/Full",
    12: "10000baseT/Full", 15: "2500baseX/Full", 17: "1000baseKX/Full", 18: "10000baseKX4/Full", 19: "10000baseKR/Full",
    23: "40000baseKR4/Full", 24: "40000baseCR4/Full", 25: "40000baseSR4/Full", 26: "40000baseLR4/Full",
}  # fmt: skip
KINDS = {7: "twisted pair", 8: "AUI", 9: "media-independent", 10: "fibre", 11: "BNC"}


@dataclass(frozen=True)
class Link:
    """Empty where the driver does not tell."""

    modes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    port: str = ""
    transceiver: str = ""
    auto_negotiation: bool = False


def link(ask: Ask, name: str) -> Link:
    data = ask(name, COMMAND.pack(GSET, *[0] * 16).ljust(64, b"\0"))
    if data is None:
        return Link()
    fields = COMMAND.unpack_from(data)
    supported, port, transceiver, negotiates = fields[1], fields[5], fields[7], fields[8]
    return Link(
        modes=tuple(mode for bit, mode in MODES.items() if supported >> bit & 1),
        ports=tuple(kind for bit, kind in KINDS.items() if supported >> bit & 1),
        port=PORTS.get(port, ""),
        transceiver=TRANSCEIVERS.get(transceiver, ""),
        auto_negotiation=negotiates == 1,
    )


def firmware(ask: Ask, name: str) -> str:
    """Version of the card's firmware; empty if it has none or does not tell."""
    data = ask(name, struct.pack("I", GDRVINFO).ljust(DRIVER_INFO, b"\0"))
    text = data[FIRMWARE].split(b"\0", 1)[0].decode("ascii", "replace") if data else ""
    return "" if text == "N/A" else text


def ask_driver(name: str, command: bytes) -> bytes | None:
    """What the driver of a link of this machine answers."""
    buffer = array.array("B", command)
    request = struct.pack("16sP", name.encode(), buffer.buffer_info()[0]).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, SIOCETHTOOL, request)
        except OSError:
            return None
    return buffer.tobytes()
