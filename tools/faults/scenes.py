"""Every kind of operation there is: what must be before it, how it is asked for, what must be true after it, and how it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chassis.saga import Saga
from services.images.sagas import deleting, importing
from services.instances.sagas import bulk, create, delete, freeze, hurry, reach, rename, restart, start, stop, update
from services.storage.sagas import pool as pools
from tests.conformance import images
from tests.conformance.client import Answer
from tests.conformance.world import unique
from tools.faults.subject import DEADLINE, Subject

Check = Callable[["Scene", Subject], str]  # what is not as it must be, "" if all is well


@dataclass
class Scene:
    """One operation on things of its own. The names are drawn anew for each case."""

    name: str
    saga: str
    part: str
    steps: Sequence[str]
    undos: Sequence[str]
    starter: bool = False  # whether the starter process takes part
    points: Sequence[str] = ()  # of a scene that no saga runs
    durable: bool = True  # whether it has an operation that outlives every process
    what: str = field(default_factory=lambda: unique("f"))
    other: str = field(default_factory=lambda: unique("g"))

    def prepare(self, subject: Subject) -> None:
        """Make what the operation works on."""

    def ask(self, subject: Subject) -> Answer:
        raise NotImplementedError

    def under_way(self, subject: Subject) -> bool:
        """For a scene without a failpoint: whether the moment to strike has come."""
        raise NotImplementedError

    def struck(self, subject: Subject, victim: str) -> None:
        """What is done once the victim is dead and has a successor."""

    def achieved(self, subject: Subject) -> str:
        """What is missing after a success."""
        raise NotImplementedError

    def undone(self, subject: Subject) -> str:
        """What is not as before after a failure."""
        raise NotImplementedError

    def again(self, subject: Subject) -> str:
        """What is wrong when a change without an operation is asked for once more."""
        return ""

    def clear(self, subject: Subject) -> None:
        """Delete everything; it must be possible."""
        subject.world.remove_instance(self.what)
        subject.world.remove_instance(self.other)

    # For the scenes.

    def make(self, subject: Subject, *, start: bool = False) -> None:
        subject.api.post("/1.0/instances", self.body(subject))
        if start:
            subject.api.wait(self.act(subject, "start"), DEADLINE)

    def body(self, subject: Subject) -> dict[str, Any]:
        """An instance with a nic on the bridge."""
        nic = {"type": "nic", "network": subject.bridge.name, "name": "eth0"}
        return subject.world.body(self.what, devices={"eth0": nic})

    def act(self, subject: Subject, action: str) -> Answer:
        body = {"action": action, "timeout": 30, "force": action in ("stop", "restart")}
        return subject.api.request("PUT", f"/1.0/instances/{self.what}/state", body)

    def there(self, subject: Subject, path: str) -> str:
        found = subject.api.request("GET", path)
        return "" if found.status == 200 else f"GET {path} answers {found.status}"

    def gone(self, subject: Subject, path: str) -> str:
        found = subject.api.request("GET", path)
        return "" if found.status == 404 else f"GET {path} answers {found.status}"

    def status_is(self, subject: Subject, wanted: str) -> str:
        found = subject.api.request("GET", f"/1.0/instances/{self.what}/state")
        if found.status != 200:
            return f"the state of the instance answers {found.status}"
        status = found.metadata["status"]
        return "" if status == wanted else f"the instance is {status}, not {wanted}"


def _points(saga: Saga) -> tuple[Sequence[str], Sequence[str]]:
    return [step.name for step in saga.steps], [step.name for step in saga.steps if step.undo is not None]


@dataclass
class Create(Scene):
    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", "/1.0/instances", self.body(subject))

    def achieved(self, subject: Subject) -> str:
        return self.status_is(subject, "Stopped") or _starts(self, subject)

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/instances/{self.what}")


def _starts(scene: Scene, subject: Subject) -> str:
    """An instance is whole if it starts."""
    ended = subject.api.finished(scene.act(subject, "start").operation, DEADLINE)
    return ended["err"] or scene.status_is(subject, "Running")


@dataclass
class Delete(Scene):
    def prepare(self, subject: Subject) -> None:
        self.make(subject)

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("DELETE", f"/1.0/instances/{self.what}")

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/instances/{self.what}")

    def undone(self, subject: Subject) -> str:
        return self.there(subject, f"/1.0/instances/{self.what}")


@dataclass
class Act(Scene):
    """A change of state: `before` and `after` are the instance's states."""

    action: str = ""
    before: str = "Stopped"
    after: str = "Running"

    def prepare(self, subject: Subject) -> None:
        self.make(subject, start=self.before != "Stopped")
        if self.before == "Frozen":
            subject.api.wait(self.act(subject, "freeze"), DEADLINE)

    def ask(self, subject: Subject) -> Answer:
        return self.act(subject, self.action)

    def achieved(self, subject: Subject) -> str:
        return self.status_is(subject, self.after)

    def undone(self, subject: Subject) -> str:
        """A restart that fails leaves it stopped, as LXD does; any other failure leaves it as it was."""
        return self.status_is(subject, "Stopped" if self.action == "restart" else self.before)


@dataclass
class All(Act):
    """The same for all instances of the project at once."""

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("PUT", "/1.0/instances", {"state": {"action": self.action, "timeout": 30}})


@dataclass
class Hurry(Act):
    """A forced stop of an instance whose clean stop waits in vain."""

    def prepare(self, subject: Subject) -> None:
        self.make(subject)
        subject.world.push(self.what, "/sbin/init", b"#!/bin/sh\ntrap '' PWR\nwhile :; do sleep 1; done\n")
        subject.api.wait(self.act(subject, "start"), DEADLINE)
        subject.world.settle(self.what)
        waits = {"action": "stop", "timeout": 600}
        assert subject.api.request("PUT", f"/1.0/instances/{self.what}/state", waits).status == 202


@dataclass
class Rename(Scene):
    def prepare(self, subject: Subject) -> None:
        self.make(subject)

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", f"/1.0/instances/{self.what}", {"name": self.other})

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/instances/{self.what}") or self.there(subject, f"/1.0/instances/{self.other}")

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, f"/1.0/instances/{self.other}") or _starts(self, subject)


@dataclass
class Update(Scene):
    """A running instance gets a limit, loses a nic and gains another."""

    def prepare(self, subject: Subject) -> None:
        self.make(subject, start=True)

    def ask(self, subject: Subject) -> Answer:
        path = f"/1.0/instances/{self.what}"
        now = subject.api.get(path)
        nic = {"type": "nic", "network": subject.other_bridge.name, "name": "eth1"}
        devices = {**{name: d for name, d in now["devices"].items() if name != "eth0"}, "eth1": nic}
        config = {**now["config"], "limits.memory": "64MiB"}
        return subject.api.request("PUT", path, {**now, "config": config, "devices": devices})

    def achieved(self, subject: Subject) -> str:
        found = subject.api.get(f"/1.0/instances/{self.what}")
        limited = subject.world.shell(self.what, "ls /sys/class/net").split()
        whole = found["config"].get("limits.memory") == "64MiB" and "eth1" in found["devices"]
        return (
            "" if whole and "eth1" in limited and "eth0" not in limited else f"it has {limited} and {found['config']}"
        )

    def undone(self, subject: Subject) -> str:
        found = subject.api.get(f"/1.0/instances/{self.what}")
        limited = subject.world.shell(self.what, "ls /sys/class/net").split()
        as_before = "limits.memory" not in found["config"] and "eth0" in found["devices"]
        return (
            "" if as_before and "eth0" in limited and "eth1" not in limited else f"it has {limited}, {found['config']}"
        )


@dataclass
class ProfileChange(Scene):
    """A profile that a running instance uses gains a nic: the profile stands, and the instance follows."""

    def prepare(self, subject: Subject) -> None:
        subject.api.post("/1.0/profiles", {"name": self.other})
        body = {**self.body(subject), "profiles": [self.other]}
        subject.api.post("/1.0/instances", body)
        subject.api.wait(self.act(subject, "start"), DEADLINE)

    def ask(self, subject: Subject) -> Answer:
        nic = {"type": "nic", "network": subject.other_bridge.name, "name": "eth1"}
        return subject.api.request("PUT", f"/1.0/profiles/{self.other}", {"config": {}, "devices": {"eth1": nic}})

    def _has(self, subject: Subject) -> tuple[bool, bool]:
        profile = subject.api.get(f"/1.0/profiles/{self.other}")
        return "eth1" in profile["devices"], "eth1" in subject.world.shell(self.what, "ls /sys/class/net").split()

    def achieved(self, subject: Subject) -> str:
        return "" if self._has(subject) == (True, True) else f"profile, instance: {self._has(subject)}"

    undone = achieved  # LXD's words: the profile change is saved still

    def clear(self, subject: Subject) -> None:
        subject.world.remove_instance(self.what)
        subject.world.gone(f"/1.0/profiles/{self.other}")


@dataclass
class Import(Scene):
    data: bytes = b""

    def prepare(self, subject: Subject) -> None:
        self.data = images.unified_with({"scene": self.what})

    @property
    def path(self) -> str:
        return f"/1.0/images/{images.fingerprint(self.data)}"

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", "/1.0/images", self.data, {"X-LXD-properties": f"scene={self.what}"})

    def achieved(self, subject: Subject) -> str:
        return self.there(subject, self.path) or self.there(subject, f"{self.path}/export")

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def clear(self, subject: Subject) -> None:
        subject.world.gone(self.path)


@dataclass
class DeleteImage(Import):
    def prepare(self, subject: Subject) -> None:
        super().prepare(subject)
        images.upload(subject.api, self.data)

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("DELETE", self.path)

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def undone(self, subject: Subject) -> str:
        return self.there(subject, self.path)


@dataclass
class CreatePool(Scene):
    driver: str = "dir"

    @property
    def path(self) -> str:
        return f"/1.0/storage-pools/{self.what}"

    def ask(self, subject: Subject) -> Answer:
        config = {"size": "200MiB"} if self.driver == "btrfs" else {}
        body = {"name": self.what, "driver": self.driver, "config": config}
        return subject.api.request("POST", "/1.0/storage-pools", body)

    def achieved(self, subject: Subject) -> str:
        return self.there(subject, self.path) or self.there(subject, f"{self.path}/resources")

    def undone(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def clear(self, subject: Subject) -> None:
        subject.world.gone(self.path)


@dataclass
class DeletePool(CreatePool):
    def prepare(self, subject: Subject) -> None:
        assert CreatePool.ask(self, subject).status < 300

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("DELETE", self.path)

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, self.path)

    def undone(self, subject: Subject) -> str:
        return self.there(subject, self.path)


def of_sagas() -> list[Callable[[], Scene]]:
    """A maker for each scene that a saga runs."""

    def scene(kind: type[Scene], saga: Saga, part: str, name: str = "", **more: Any) -> Callable[[], Scene]:
        steps, undos = _points(saga)
        return lambda: kind(name or saga.name, saga.name, part, steps, undos, **more)

    def instance(kind: type[Scene], saga: Saga, **more: Any) -> Callable[[], Scene]:
        return scene(kind, saga, "instances", starter=kind not in (Create, Delete, Rename), **more)

    return [
        instance(Create, create.SAGA),
        instance(Delete, delete.SAGA),
        instance(Act, start.SAGA, action="start"),
        instance(Act, stop.SAGA, action="stop", before="Running", after="Stopped"),
        instance(Act, restart.SAGA, action="restart", before="Running"),
        instance(Act, freeze.FREEZE, action="freeze", before="Running", after="Frozen"),
        instance(Act, freeze.UNFREEZE, action="unfreeze", before="Frozen"),
        instance(Hurry, hurry.SAGA, action="stop", before="Stopped", after="Stopped"),
        instance(All, bulk.SAGA, action="start"),
        instance(Rename, rename.SAGA),
        instance(Update, update.SAGA),
        instance(ProfileChange, reach.SAGA),
        scene(Import, importing.IMPORT, "images"),
        scene(DeleteImage, deleting.DELETE, "images"),
        scene(CreatePool, pools.CREATE, "storage", name="storage-pool.create (dir)"),
        scene(CreatePool, pools.CREATE, "storage", name="storage-pool.create (btrfs)", driver="btrfs"),
        scene(DeletePool, pools.DELETE, "storage", name="storage-pool.delete (dir)"),
        scene(DeletePool, pools.DELETE, "storage", name="storage-pool.delete (btrfs)", driver="btrfs"),
    ]
