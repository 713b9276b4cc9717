"""What a test stands on: names that are unique, things that are made for it, and their removal afterwards."""

from __future__ import annotations

import itertools
import secrets
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from tests.conformance import images, process
from tests.conformance.client import Client, eventually
from tests.conformance.kernel import minds
from tests.conformance.process import Ran

_counter = itertools.count(1)
_drawn: deque[int] = deque(maxlen=50)  # the last subnets that were given away
TOKEN = secrets.token_hex(2)


def unique(prefix: str) -> str:
    """A name that no other test and no other session uses; short enough for a bridge when the prefix has 5 letters."""
    return f"{prefix}-{TOKEN}{next(_counter)}"


def now() -> str:
    """The time as the API writes it, without fractions."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


def free_subnets() -> tuple[IPv4Network, IPv6Network]:
    """A /24 of 198.18.0.0/16 and a /64 of fd42::/16 that nothing on this host uses, nor is soon to use.

    198.19.0.0/16 and what begins at 198.18.200.0 are for fixed ones.
    """
    routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True).stdout
    while True:
        number = secrets.randbelow(200)
        if f"198.18.{number}." not in routes and number not in _drawn:
            _drawn.append(number)
            v6 = IPv6Network(f"fd42:{secrets.token_hex(2)}:{number:x}:1::/64")
            return IPv4Network(f"198.18.{number}.0/24"), v6


@dataclass(frozen=True)
class Ground:
    """Made once a session: the pool and the image that instances come from."""

    api: Client
    pool: str
    image: str


@dataclass(frozen=True)
class Bridge:
    """A managed bridge and its addresses: `.1` and `::1` are the host's."""

    name: str
    v4: IPv4Network
    v6: IPv6Network

    @property
    def gateway(self) -> str:
        return str(self.v4[1])

    @property
    def gateway6(self) -> str:
        return str(self.v6[1])


@dataclass
class World:
    """Makes things through the API and removes them in the reverse order."""

    ground: Ground
    undo: list[Callable[[], Any]] = field(default_factory=list)

    @property
    def api(self) -> Client:
        return self.ground.api

    def finally_do(self, action: Callable[[], Any]) -> None:
        self.undo.append(action)

    def close(self) -> None:
        """Undoes everything even if some of it fails, then tells of the failures."""
        problems = []
        while self.undo:
            try:
                self.undo.pop()()
            except Exception as error:  # a leftover must not hide the others
                problems.append(error)
        if problems:
            raise ExceptionGroup("left behind", problems)

    def gone(self, path: str) -> None:
        """Deletes what may be gone already."""
        answer = self.api.request("DELETE", path)
        if answer.status == 202:
            self.api.wait(answer)
        assert answer.status in (200, 202, 404), f"DELETE {path}: {answer.status} {answer.body!r}"

    def body(
        self,
        name: str,
        config: Mapping[str, str] | None = None,
        devices: Mapping[str, Mapping[str, str]] | None = None,
        profiles: Sequence[str] = (),
        **fields: Any,
    ) -> dict[str, Any]:
        """What POST /1.0/instances wants for an instance from the session's image on the session's pool."""
        root = {"root": {"type": "disk", "path": "/", "pool": self.ground.pool}}
        return {
            "name": name,
            "type": "container",
            "source": {"type": "image", "fingerprint": self.ground.image},
            "config": dict(config or {}),
            "devices": {**root, **{key: dict(value) for key, value in (devices or {}).items()}},
            "profiles": list(profiles),
            **fields,
        }

    def instance(self, start: bool = False, name: str | None = None, **fields: Any) -> str:
        """A container, stopped unless `start`; takes config, devices, profiles and any other field of the request."""
        name = name or unique("c")
        self.finally_do(partial(self.remove_instance, name))
        self.api.post("/1.0/instances", self.body(name, **fields))
        if start:
            self.start(name)
        return name

    def remove_instance(self, name: str) -> None:
        """Stops and deletes an instance; tried again while another operation on it is still ending."""
        eventually(lambda: self._removed(f"/1.0/instances/{name}"), pause=0.1)

    def _removed(self, path: str) -> bool:
        state = self.api.request("GET", f"{path}/state")
        if state.status == 404:
            return True
        if state.metadata["status"] != "Stopped":
            answer = self.api.request("PUT", f"{path}/state", {"action": "stop", "force": True, "timeout": 30})
            self.api.finished(answer.operation)  # it may have stopped by itself meanwhile
        answer = self.api.request("DELETE", path)
        assert answer.status in (202, 404), f"DELETE {path}: {answer.status} {answer.body!r}"
        return answer.status == 404 or self.api.finished(answer.operation)["status"] == "Success"

    def state(self, name: str, action: str, **fields: Any) -> dict[str, Any]:
        return self.api.put(f"/1.0/instances/{name}/state", {"action": action, "timeout": 30, **fields})

    def start(self, name: str) -> None:
        """Starts an instance and waits until its init minds signals: what comes earlier is lost."""
        self.state(name, "start")
        self.settle(name)

    def settle(self, name: str) -> None:
        """Waits until the init of a running instance minds the signals that stop it."""
        eventually(lambda: minds(self.pid(name), signal.SIGPWR))

    def stop(self, name: str) -> None:
        self.state(name, "stop", force=True)

    def pid(self, name: str) -> int:
        """The host's pid of the instance's init."""
        return int(self.api.get(f"/1.0/instances/{name}/state")["pid"])

    def set(self, name: str, **config: str) -> None:
        """Changes config keys of an instance; underscores in the names stand for dots."""
        self.api.patch(f"/1.0/instances/{name}", {"config": {key.replace("_", "."): v for key, v in config.items()}})

    def profile(self, config: Mapping[str, str] | None = None, **fields: Any) -> str:
        name = fields.pop("name", None) or unique("p")
        self.finally_do(partial(self.gone, f"/1.0/profiles/{name}"))
        self.api.post("/1.0/profiles", {"name": name, "config": dict(config or {}), **fields})
        return name

    def image(self, properties: Mapping[str, str], **headers: str) -> str:
        """A busybox image of its own, made different by its properties."""
        data = images.unified_with(properties)
        self.finally_do(partial(self.gone, f"/1.0/images/{images.fingerprint(data)}"))
        return images.upload(self.api, data, **headers)

    def bridge(self, config: Mapping[str, str] | None = None, **fields: Any) -> Bridge:
        """A managed bridge network with NAT on subnets of its own; `config` adds keys or replaces them."""
        name, (v4, v6) = unique("nb"), free_subnets()
        base = {"ipv4.address": f"{v4[1]}/24", "ipv6.address": f"{v6[1]}/64", "ipv4.nat": "true", "ipv6.nat": "true"}
        self.finally_do(partial(self.gone, f"/1.0/networks/{name}"))
        self.api.post("/1.0/networks", {"name": name, "type": "bridge", "config": {**base, **(config or {})}, **fields})
        return Bridge(name, v4, v6)

    def run(self, name: str, *command: str, **fields: Any) -> Ran:
        return process.run(self.api, name, *command, **fields)

    def shell(self, name: str, script: str) -> str:
        """What a script wrote in the instance; it must succeed."""
        return process.shell(self.api, name, script)

    def push(self, name: str, path: str, data: bytes, **headers: str) -> None:
        self.api.post(f"/1.0/instances/{name}/files?path={path}", data, **headers)

    def pull(self, name: str, path: str) -> bytes:
        answer = self.api.request("GET", f"/1.0/instances/{name}/files?path={path}")
        assert answer.status == 200, f"{path}: {answer.status} {answer.body!r}"
        return answer.body

    def lease(self, name: str, interface: str = "eth0") -> dict[str, str]:
        """What the DHCP server offered (the variables udhcpc hands to its script), as soon as there is a lease."""
        text = eventually(lambda: self.run(name, "cat", f"/run/dhcp.{interface}").stdout, pause=0.2)
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
