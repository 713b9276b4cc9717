"""Choosing a subnet that nobody uses: 10.x.y.0/24 and fd42:…::/64, as LXD does.

LXD also asks the candidates by ping and by TCP whether somebody answers; behind a proxy that answers for every address it then finds no
subnet at all. Here the host's own routes and addresses decide.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable

TRIES = 100
ULA = "fd42"
SYSTEM = random.SystemRandom()
NONE_LEFT = (
    "Failed generating auto config: Failed to automatically find an unused IPv{} subnet, manual configuration required"
)


def free4(taken: Iterable[str], draw: random.Random) -> str:
    """ "10.x.y.1/24" of a subnet that overlaps none of `taken` (subnets). Raises ValueError after 100 tries."""
    known = [ipaddress.ip_network(text, strict=False) for text in taken if ":" not in text]
    for _ in range(TRIES):
        found = ipaddress.IPv4Interface(f"10.{draw.randrange(255)}.{draw.randrange(255)}.1/24")
        if not any(found.network.overlaps(other) for other in known):
            return str(found)
    raise ValueError(NONE_LEFT.format(4))


def free6(taken: Iterable[str], draw: random.Random) -> str:
    """ "fd42:x:y:z::1/64" likewise."""
    known = [ipaddress.ip_network(text, strict=False) for text in taken if ":" in text]
    for _ in range(TRIES):
        groups = ":".join(f"{draw.randrange(1, 65536):x}" for _ in range(3))
        found = ipaddress.IPv6Interface(f"{ULA}:{groups}::1/64")
        if not any(found.network.overlaps(other) for other in known):
            return str(found)
    raise ValueError(NONE_LEFT.format(6))


def hwaddr(draw: random.Random) -> str:
    """A MAC address with LXD's prefix."""
    return "00:16:3e:" + ":".join(f"{draw.randrange(256):02x}" for _ in range(3))
