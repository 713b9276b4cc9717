"""What a test asks the host itself: interfaces, routes, firewall rules, and a neighbour in a network namespace of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.world import World, unique

Json = Any


def host(*command: str) -> str:
    """What a command on the host wrote; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def link(name: str) -> dict[str, Json] | None:
    """`ip -d link show` of one interface, or None."""
    done = subprocess.run(["ip", "-d", "-j", "link", "show", "dev", name], capture_output=True, text=True)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def addresses(name: str) -> set[str]:
    """All addresses of an interface as ADDRESS/PREFIX, link-local ones left out."""
    found = json.loads(host("ip", "-j", "address", "show", "dev", name))[0]["addr_info"]
    return {f"{entry['local']}/{entry['prefixlen']}" for entry in found if entry["scope"] == "global"}


def routes(device: str) -> dict[str, str]:
    """Destinations routed to a device, both families, with the protocol that set them."""
    found = [
        *json.loads(host("ip", "-j", "route", "show", "dev", device)),
        *json.loads(host("ip", "-6", "-j", "route", "show", "dev", device)),
    ]
    return {entry["dst"]: entry.get("protocol", "") for entry in found}


def counter(device: str, name: str) -> int:
    return int(Path(f"/sys/class/net/{device}/statistics/{name}").read_text())


def rules(device: str, *hooks: str) -> list[str]:
    """The nftables rules that are about a device, as JSON texts, in chains hooked at `hooks` ("forward", "postrouting" ...).

    A rule is about a device when it, its chain or its table names it: LXD has chains a network, Nubibus a table a network.
    """
    objects = json.loads(host("nft", "-j", "list", "ruleset"))["nftables"]
    chains = [o["chain"] for o in objects if "chain" in o]
    hooked = {(c["family"], c["table"], c["name"]) for c in chains if c.get("hook") in hooks}
    found = [o["rule"] for o in objects if "rule" in o]
    found = [r for r in found if (r["family"], r["table"], r["chain"]) in hooked]
    return [json.dumps(r["expr"]) for r in found if device in json.dumps([r["table"], r["chain"], r["expr"]])]


@dataclass(frozen=True)
class Outside:
    """A neighbour of the host in a namespace of its own, behind a router link; the host is its default gateway."""

    namespace: str
    address: str
    address6: str

    def run(self, *command: str) -> str:
        return host("ip", "netns", "exec", self.namespace, *command)

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        full = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@contextmanager
def outside(third: int) -> Iterator[Outside]:
    """Addresses 198.19.<third>.0/24 and fd42:0:0:<third>::/64: .1 is the host, .2 the neighbour."""
    name, near, far = unique("nout"), unique("nov"), unique("nop")
    v4, v6 = f"198.19.{third}", f"fd42:0:0:{third:x}:"
    host("ip", "netns", "add", name)
    try:
        host("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        for address in (f"{v4}.1/24", f"{v6}:1/64"):
            host("ip", "address", "add", address, "dev", near, *(["nodad"] if ":" in address else []))
        host("ip", "link", "set", near, "up")
        inner = ["ip", "-n", name]
        host(*inner, "link", "set", "lo", "up")
        for address in (f"{v4}.2/24", f"{v6}:2/64"):
            host(*inner, "address", "add", address, "dev", far, *(["nodad"] if ":" in address else []))
        host(*inner, "link", "set", far, "up")
        host(*inner, "route", "add", "default", "via", f"{v4}.1")
        host(*inner, "-6", "route", "add", "default", "via", f"{v6}:1")
        yield Outside(name, f"{v4}.2", f"{v6}:2")
    finally:
        subprocess.run(["ip", "link", "delete", near], capture_output=True)
        host("ip", "netns", "delete", name)


def serve(world: World, name: str, port: int, text: str) -> None:
    """From now on an instance answers `text` to whoever connects to this TCP port."""
    program = f"/tmp/say-{port}"
    world.shell(name, f"echo '#!/bin/sh' > {program}; echo echo {text} >> {program}; chmod +x {program}")
    world.shell(name, f"nc -ll -p {port} -e {program} >/dev/null 2>&1 </dev/null &")


def ask(neighbour: Outside, address: str, port: int) -> str:
    """What a TCP port answers the neighbour; "" if nothing within two seconds."""
    return neighbour.run("sh", "-c", f"timeout 2 busybox nc -w 2 {address} {port} </dev/null || true").strip()
