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


def _life(noun: str, path: str, make: Asked, *, renames: bool = True) -> list[tuple[str, dict[str, Any]]]:
    """Making, changing, renaming and deleting a thing that has a name and a description, as (name of the scene, fields of it)."""
    one, other = f"{path}/{{what}}", f"{path}/{{other}}"
    told: dict[str, Any] = {"description": "changed"}
    rename: Asked = ("POST", one, {"name": "{other}"})
    told_of = f"{noun}-"
    found: list[tuple[str, dict[str, Any]]] = [
        (f"{noun}.create", {"asked": make, "before": {one: None}, "after": {one: {}}, "action": f"{told_of}created"}),
        (
            f"{noun}.update",
            {
                "given": (make,),
                "asked": ("PATCH", one, told),
                "before": {one: {"description": ""}},
                "after": {one: told},
                "action": f"{told_of}updated",
            },
        ),
        (
            f"{noun}.delete",
            {
                "given": (make,),
                "asked": ("DELETE", one, {}),
                "before": {one: {}},
                "after": {one: None},
                "action": f"{told_of}deleted",
            },
        ),
    ]
    if renames:
        sides = {"before": {one: {}, other: None}, "after": {one: None, other: {}}}
        found.append((f"{noun}.rename", {"given": (make,), "asked": rename, **sides, "action": f"{told_of}renamed"}))
    return found


ALIAS: Asked = ("POST", "/1.0/images/aliases", {"name": "{what}", "target": "{image}"})
FORWARDS = "/1.0/networks/{bridge}/forwards"
FORWARD = f"{FORWARDS}/{{listen}}"
LISTEN: Asked = ("POST", FORWARDS, {"listen_address": "{listen}"})
TRUST: Asked = ("POST", "/1.0/certificates", {"type": "client", "name": "{what}", "certificate": "{certificate}"})
TRUSTED = "/1.0/certificates/{fingerprint}"
VOLUMES = "/1.0/storage-pools/{pool}/volumes/custom"
ROOT = {"root": {"type": "disk", "path": "/", "pool": "{pool}"}}
INSTANCE: Asked = ("POST", "/1.0/instances", {"name": "{what}", "source": {"type": "none"}, "devices": ROOT})
ZONE = "/1.0/network-zones/{what}.example"
MAKE_ZONE: Asked = ("POST", "/1.0/network-zones", {"name": "{what}.example"})
RECORD = f"{ZONE}/records/www"
CHANGED = {"description": "changed"}


def _updated(path: str, *given: Asked) -> dict[str, Any]:
    """A description changed."""
    return {
        "given": given,
        "asked": ("PATCH", path, CHANGED),
        "before": {path: {"description": ""}},
        "after": {path: CHANGED},
    }


def of_changes() -> list[Callable[[], Scene]]:
    """A maker for each scene."""

    def scene(part: str, kind: str, name: str, more: dict[str, Any]) -> Callable[[], Scene]:
        points = (f"{kind}.before", f"{kind}.after")
        return lambda: Change(name, "commit", part, (), (), points=points, durable=False, **more)

    def named(path: str) -> Asked:
        return "POST", path, {"name": "{what}"}

    def life(
        part: str, kind: str, noun: str, path: str, make: Asked, renames: bool = True
    ) -> list[Callable[[], Scene]]:
        return [scene(part, kind, name, more) for name, more in _life(noun, path, make, renames=renames)]

    volume: Asked = ("POST", VOLUMES, {"name": "{what}", "type": "custom", "config": {}})
    config = {"config": {"user.{what}": "x"}}
    record: Asked = ("POST", f"{ZONE}/records", {"name": "www"})
    forward = {"asked": LISTEN, "before": {FORWARD: None}, "after": {FORWARD: {}}, "action": "network-forward-created"}
    trust = {"asked": TRUST, "before": {TRUSTED: None}, "after": {TRUSTED: {}}, "action": "certificate-created"}
    zone = {"asked": MAKE_ZONE, "before": {ZONE: None}, "after": {ZONE: {}}, "action": "network-zone-created"}
    return [
        *life("control", "control_project", "project", "/1.0/projects", named("/1.0/projects")),
        scene(
            "control",
            "control_config",
            "config.update",
            {
                "asked": ("PATCH", "/1.0", config),
                "before": {"/1.0": {}},
                "after": {"/1.0": config},
                "action": "config-updated",
            },
        ),
        scene("control", "control_certificate", "certificate.create", trust),
        *life("instances", "instances_profile", "profile", "/1.0/profiles", named("/1.0/profiles")),
        scene(
            "instances",
            "instances_instance",
            "instance.update (its row alone)",
            {**_updated("/1.0/instances/{what}", INSTANCE), "action": "instance-updated"},
        ),
        *life("images", "images_alias", "image-alias", "/1.0/images/aliases", ALIAS),
        scene(
            "storage",
            "storage_volume",
            "storage-volume.update",
            {**_updated(f"{VOLUMES}/{{what}}", volume), "action": "storage-volume-updated"},
        ),
        *life("network", "network_acl", "network-acl", "/1.0/network-acls", named("/1.0/network-acls")),
        scene("network", "network_forward", "network-forward.create", forward),
        scene(
            "network",
            "network_forward",
            "network-forward.update",
            {**_updated(FORWARD, LISTEN), "action": "network-forward-updated"},
        ),
        scene(
            "network",
            "network_forward",
            "network-forward.delete",
            {
                "given": (LISTEN,),
                "asked": ("DELETE", FORWARD, {}),
                "before": {FORWARD: {}},
                "after": {FORWARD: None},
                "action": "network-forward-deleted",
            },
        ),
        scene("network", "network_zone", "network-zone.create", zone),
        scene(
            "network",
            "network_zone-record",
            "network-zone-record.create",
            {
                "given": (MAKE_ZONE,),
                "asked": record,
                "before": {ZONE: {}, RECORD: None},
                "after": {ZONE: {}, RECORD: {}},
                "action": "network-zone-record-created",
            },
        ),
    ]
