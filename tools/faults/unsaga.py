"""Operations that no saga runs: changes of networks, whose row is their journal, and commands in instances."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.conformance import process
from tests.conformance.client import Answer
from tests.conformance.world import free_subnets, unique
from tools.faults.scenes import Scene
from tools.faults.subject import Subject

RUNNING = "while it runs"


@dataclass
class CreateNetwork(Scene):
    what: str = field(default_factory=lambda: unique("fn"))
    other: str = field(default_factory=lambda: unique("gn"))
    config: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/1.0/networks/{self.what}"

    def prepare(self, subject: Subject) -> None:
        v4, v6 = free_subnets()
        self.config = {"ipv4.address": f"{v4[1]}/24", "ipv6.address": f"{v6[1]}/64", "ipv4.nat": "true"}

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request(
            "POST", "/1.0/networks", {"name": self.what, "type": "bridge", "config": self.config}
        )

    def achieved(self, subject: Subject) -> str:
        return self.there(subject, self.path) or self.there(subject, f"{self.path}/state")

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def clear(self, subject: Subject) -> None:
        subject.world.gone(self.path)
        subject.world.gone(f"/1.0/networks/{self.other}")


@dataclass
class StandingNetwork(CreateNetwork):
    """There is one before."""

    def prepare(self, subject: Subject) -> None:
        super().prepare(subject)
        answer = CreateNetwork.ask(self, subject)
        assert answer.status < 300, answer.body


@dataclass
class UpdateNetwork(StandingNetwork):
    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("PATCH", self.path, {"config": {"ipv4.nat": "false", "bridge.mtu": "1400"}})

    def _mtu(self, subject: Subject) -> tuple[str, int]:
        """As configured and as it is."""
        config = subject.api.get(self.path)["config"]
        return config.get("bridge.mtu", "1500"), int(subject.api.get(f"{self.path}/state")["mtu"])

    def achieved(self, subject: Subject) -> str:
        return "" if self._mtu(subject) == ("1400", 1400) else f"the MTU is {self._mtu(subject)}"

    def undone(self, subject: Subject) -> str:
        return "" if self._mtu(subject) == ("1500", 1500) else f"the MTU is {self._mtu(subject)}"


@dataclass
class RenameNetwork(StandingNetwork):
    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", self.path, {"name": self.other})

    def achieved(self, subject: Subject) -> str:
        path = f"/1.0/networks/{self.other}"
        return self.gone(subject, self.path) or self.there(subject, path) or self.there(subject, f"{path}/state")

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/networks/{self.other}") or self.there(subject, f"{self.path}/state")


@dataclass
class DeleteNetwork(StandingNetwork):
    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("DELETE", self.path)

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def undone(self, subject: Subject) -> str:
        return self.there(subject, f"{self.path}/state")


@dataclass
class Exec(Scene):
    """A command that runs until it is killed; it must end, and its operation with it, whoever dies."""

    websockets: bool = True
    session: process.Session | None = None

    def prepare(self, subject: Subject) -> None:
        self.make(subject, start=True)

    def ask(self, subject: Subject) -> Answer:
        path = f"/1.0/instances/{self.what}/exec"
        body: dict[str, Any] = {"command": ["sleep", "4711"], "wait-for-websocket": self.websockets}
        if not self.websockets:
            return subject.api.request("POST", path, body)
        self.session = process.attach(subject.api, path, body)
        return Answer(202, {}, b'{"operation": "%s"}' % self.session.operation.encode())

    def _sleeps(self, subject: Subject) -> bool:
        return "sleep 4711" in process.run(subject.api, self.what, "ps").stdout

    def under_way(self, subject: Subject) -> bool:
        return self._sleeps(subject)

    def struck(self, subject: Subject, victim: str) -> None:
        """The command goes with its service or its connection; if neither died, it is ended from within."""
        if victim in ("nats", "starter") or (victim == "gateway" and not self.websockets):
            process.run(subject.api, self.what, "killall", "sleep")

    def achieved(self, subject: Subject) -> str:
        return "the command is still there" if self._sleeps(subject) else ""

    undone = achieved

    def clear(self, subject: Subject) -> None:
        if self.session is not None:
            with contextlib.suppress(Exception):
                self.session.close()
        super().clear(subject)


def without_sagas() -> list[Callable[[], Scene]]:
    """A maker for each of these scenes."""

    def network(kind: type[CreateNetwork], name: str, *points: str) -> Callable[[], Scene]:
        return lambda: kind(name, name, "network", (), (), points=points, durable=False)

    def command(name: str, websockets: bool) -> Callable[[], Scene]:
        return lambda: Exec(name, "", "instances", (), (), starter=True, points=(RUNNING,), websockets=websockets)

    return [
        network(CreateNetwork, "network.create", "record.do.after", "host.do.after"),
        network(UpdateNetwork, "network.update", "host.do.after"),
        network(RenameNetwork, "network.rename", "links.do.after", "host.do.after"),
        network(DeleteNetwork, "network.delete", "record.do.after", "host.do.after"),
        command("exec over websockets", True),
        command("exec without websockets", False),
    ]
