"""Bandwidth limits of a nic, on the host side of its pair.

What goes into the instance leaves the host interface: an htb class there. What comes out of it enters: it is redirected to an `ifb` of its
own and shaped there, because this works on kernels without the `police` action too and delays instead of dropping. Host thread only.
"""

from __future__ import annotations

import errno
import hashlib

from services.network.host import Host
from services.network.netlink import NetlinkError

ROOT, CLASS, INGRESS = 0x10000, 0x10010, 0xFFFF0000
ALL = 0x0003  # ETH_P_ALL
BITS = 8
GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)


def ifb_name(host_name: str) -> str:
    return "nif" + hashlib.sha256(host_name.encode()).hexdigest()[:10]


def apply(host: Host, host_name: str, ingress: int, egress: int) -> None:
    """Make these the limits, in bit/s; 0 is no limit."""
    index = host.links.index(host_name)
    _queue(host, index, ingress)
    _incoming(host, host_name, index, egress)


def remove(host: Host, host_name: str) -> None:
    """What does not vanish with the pair."""
    host.links.delete(ifb_name(host_name))


def _queue(host: Host, index: int, rate: int) -> None:
    """An htb with one class as the whole queue of an interface, or none."""
    _tc(host, "del", "htb", index, ROOT)
    if rate:
        host.links.route.tc("add", "htb", index, ROOT, default=0x10)
        host.links.route.tc("add-class", "htb", index, CLASS, parent=ROOT, rate=rate // BITS, ceil=rate // BITS)


def _incoming(host: Host, host_name: str, index: int, rate: int) -> None:
    name = ifb_name(host_name)
    _tc(host, "del", "ingress", index, INGRESS)
    if not rate:
        host.links.delete(name)
        return
    if host.links.get(name) is None:
        host.links.add(name, "ifb", state="up", ifalias=f"{host.alias} {host_name}")
    other = host.links.index(name)
    _queue(host, other, rate)
    host.links.route.tc("add", "ingress", index, INGRESS)
    redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": other}
    everything = {"protocol": ALL, "prio": 1, "keys": ["0x0/0x0+0"], "target": ROOT}
    host.links.route.tc("add-filter", "u32", index, parent=INGRESS, action=[redirect], **everything)


def _tc(host: Host, command: str, kind: str, index: int, handle: int) -> None:
    try:
        host.links.route.tc(command, kind, index, handle)
    except NetlinkError as error:
        if error.code not in GONE:
            raise
