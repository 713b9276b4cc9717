"""Changes that LXD answers at once, and so without an operation: the row and its event are one batch, so each is done as a whole or not
at all, is told of once or not at all, and may simply be asked for again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.client import Answer
from tests.conformance.tls import Identity
from tools.faults.scenes import Scene
from tools.faults.subject import Subject

Asked = tuple[str, str, dict[str, Any]]  # verb, path, body; {what}, {other}, {pool}, {image} and {bridge} are filled in
Fields = dict[str, Any] | None  # what a document must show; None: there is none
REFUSED = (400, 404, 409, 500)  # what a repetition may be told when there is nothing left to do


@dataclass
class Change(Scene):
    """`before` and `after` are what GET of a path shows then, as far as it matters; `action` is the lifecycle event."""

    given: Sequence[Asked] = ()
    asked: Asked = ("", "", {})
    before: dict[str, Fields] = field(default_factory=dict)
    after: dict[str, Fields] = field(default_factory=dict)
    action: str = ""
    heard: int = 0
    certificate: str = ""
    fingerprint: str = ""

    def fill(self, subject: Subject, thing: Any) -> Any:
        """The same with the names of this scene in it."""
        if isinstance(thing, dict):
            return {self.fill(subject, key): self.fill(subject, value) for key, value in thing.items()}
        if not isinstance(thing, str):
            return thing
        ground, bridge = subject.world.ground, subject.bridge
        return thing.format(
            what=self.what,
            other=self.other,
            pool=ground.pool,
            image=ground.image,
            bridge=bridge.name,
            listen=f"198.18.255.{int(self.what[-2:], 36) % 200 + 1}",
            certificate=self.certificate,
            fingerprint=self.fingerprint,
        )

    def request(self, subject: Subject, asked: Asked) -> Answer:
        verb, path, body = asked
        return subject.api.request(verb, self.fill(subject, path), self.fill(subject, body) or None)

    def prepare(self, subject: Subject) -> None:
        if any("{certificate}" in str(asked) for asked in (*self.given, self.asked)):
            with tempfile.TemporaryDirectory() as folder:
                made = Identity.make(Path(folder), self.what)
            self.certificate, self.fingerprint = made.base64, made.fingerprint
        for asked in self.given:
            answer = self.request(subject, asked)
            assert answer.status < 300, answer.body
            if answer.status == 202:
                subject.api.wait(answer)
        subject.news()

    def ask(self, subject: Subject) -> Answer:
        return self.request(subject, self.asked)

    def achieved(self, subject: Subject) -> str:
        return self._shows(subject, self.after) or self._told(subject, 1)

    def undone(self, subject: Subject) -> str:
        return self._shows(subject, self.before) or self._told(subject, 0)

    def _told(self, subject: Subject, wanted: int) -> str:
        self.heard += sum(action == self.action for action in subject.news())
        return "" if self.heard == wanted else f"{self.action} is told {self.heard} times, not {wanted}"

    def _shows(self, subject: Subject, wanted: dict[str, Fields]) -> str:
        for path, fields in self.fill(subject, wanted).items():
            found = subject.api.request("GET", path)
            if fields is None and found.status != 404:
                return f"GET {path} answers {found.status}"
            if fields is not None and (found.status != 200 or not _holds(found.metadata, fields)):
                return f"GET {path} answers {found.status} and does not show {fields}"
        return ""

    def again(self, subject: Subject) -> str:
        """Asked for once more it is done, or was."""
        answer = self.ask(subject)
        if answer.status == 202:
            subject.api.finished(answer.operation)
        elif answer.status >= 300 and answer.status not in REFUSED:
            return f"asked for again it answers {answer.status}"
        return self._shows(subject, self.after)

    def clear(self, subject: Subject) -> None:
        subject.world.remove_instance(self.what)
        for path in self.fill(subject, {**self.before, **self.after}):
            if self.what in path or self.other in path or "/forwards/" in path or "/certificates/" in path:
                subject.world.gone(path)
        if self.asked[1] == "/1.0":
            subject.api.patch("/1.0", {"config": {f"user.{self.what}": ""}})


def _holds(document: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether the document shows these fields, maps within it at least these."""
    return all(
        _holds(document.get(key) or {}, value) if isinstance(value, dict) else document.get(key) == value
        for key, value in fields.items()
    )


# What a request does to the thing at a path, as fields of Change.


def created(path: str, make: Asked, *given: Asked, beside: Sequence[str] = ()) -> dict[str, Any]:
    """`beside`: other things that are there before and after, and are cleared away with it."""
    others: dict[str, Fields] = {other: {} for other in beside}
    return {"given": given, "asked": make, "before": {**others, path: None}, "after": {**others, path: {}}}


def updated(path: str, *given: Asked) -> dict[str, Any]:
    changed = {"description": "changed"}
    before: dict[str, Fields] = {path: {"description": ""}}
    return {"given": given, "asked": ("PATCH", path, changed), "before": before, "after": {path: changed}}


def deleted(path: str, *given: Asked) -> dict[str, Any]:
    return {"given": given, "asked": ("DELETE", path, {}), "before": {path: {}}, "after": {path: None}}


def renamed(path: str, other: str, *given: Asked) -> dict[str, Any]:
    ask: Asked = ("POST", path, {"name": "{other}"})
    return {"given": given, "asked": ask, "before": {path: {}, other: None}, "after": {path: None, other: {}}}


def scene(kind: str, noun: str, verb: str, fields: dict[str, Any], note: str = "") -> Callable[[], Scene]:
    """The maker of a scene in which a row of this kind is written; its kind names the service, noun and verb the event."""
    points = (f"{kind}.before", f"{kind}.after")
    more = {**fields, "action": f"{noun}-{verb}d"}
    part = kind.partition("_")[0]
    return lambda: Change(f"{noun}.{verb}{note}", "commit", part, (), (), points=points, durable=False, **more)


def life(kind: str, noun: str, path: str, **body: str) -> list[Callable[[], Scene]]:
    """A thing that has a name and a description is made, changed, renamed and deleted."""
    one, make = f"{path}/{{what}}", ("POST", path, {"name": "{what}", **body})
    return [
        scene(kind, noun, "create", created(one, make)),
        scene(kind, noun, "update", updated(one, make)),
        scene(kind, noun, "rename", renamed(one, f"{path}/{{other}}", make)),
        scene(kind, noun, "delete", deleted(one, make)),
    ]


def of_changes() -> list[Callable[[], Scene]]:
    """A maker for each scene."""
    return [
        *life("control_project", "project", "/1.0/projects"),
        *life("instances_profile", "profile", "/1.0/profiles"),
        *life("images_alias", "image-alias", "/1.0/images/aliases", target="{image}"),
        *life("network_acl", "network-acl", "/1.0/network-acls"),
        *_single(),
        *_of_networks(),
    ]


def _single() -> list[Callable[[], Scene]]:
    """Things without a life of their own here."""
    config = {"config": {"user.{what}": "x"}}
    configured = {"asked": ("PATCH", "/1.0", config), "before": {"/1.0": {}}, "after": {"/1.0": config}}
    certificate = {"type": "client", "name": "{what}", "certificate": "{certificate}"}
    trusted = created("/1.0/certificates/{fingerprint}", ("POST", "/1.0/certificates", certificate))
    root = {"root": {"type": "disk", "path": "/", "pool": "{pool}"}}
    instance = {"name": "{what}", "source": {"type": "none"}, "devices": root}
    volumes = "/1.0/storage-pools/{pool}/volumes/custom"
    volume = {"name": "{what}", "type": "custom", "config": {}}
    changed_instance = updated("/1.0/instances/{what}", ("POST", "/1.0/instances", instance))
    return [
        scene("control_config", "config", "update", configured),
        scene("control_certificate", "certificate", "create", trusted),
        scene("instances_instance", "instance", "update", changed_instance, " (its row alone)"),
        scene("storage_volume", "storage-volume", "update", updated(f"{volumes}/{{what}}", ("POST", volumes, volume))),
    ]


def _of_networks() -> list[Callable[[], Scene]]:
    """Where the host changes before the row does."""
    forwards, zone = "/1.0/networks/{bridge}/forwards", "/1.0/network-zones/{what}.example"
    forward, record = f"{forwards}/{{listen}}", f"{zone}/records/www"
    listen: Asked = ("POST", forwards, {"listen_address": "{listen}"})
    make_zone: Asked = ("POST", "/1.0/network-zones", {"name": "{what}.example"})
    make_record: Asked = ("POST", f"{zone}/records", {"name": "www"})
    recorded = created(record, make_record, make_zone, beside=[zone])
    return [
        scene("network_forward", "network-forward", "create", created(forward, listen)),
        scene("network_forward", "network-forward", "update", updated(forward, listen)),
        scene("network_forward", "network-forward", "delete", deleted(forward, listen)),
        scene("network_zone", "network-zone", "create", created(zone, make_zone)),
        scene("network_zone-record", "network-zone-record", "create", recorded),
    ]
