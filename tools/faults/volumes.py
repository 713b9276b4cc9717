"""Custom volumes and their snapshots: scenes that are told by what exists before and after, and by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chassis.saga import Saga
from services.storage.sagas import snapshot, volume
from tests.conformance.client import Answer
from tools.faults.scenes import Scene
from tools.faults.subject import Subject

Asked = tuple[str, str, dict[str, Any]]  # verb, path below the volumes of the pool ("@" first: of the other pool), body
CONTENT = "what was written into the volume"
MAKE: Asked = ("POST", "", {"name": "{what}", "type": "custom", "content_type": "filesystem", "config": {}})
SNAPSHOT: Asked = ("POST", "/{what}/snapshots", {"name": "s"})


@dataclass
class VolumeScene(Scene):
    """`given` is asked for first; then `asked`. `made` and `gone_then`: what exists only after it, and only before it.

    The first volume that was given holds a file; of `made` and of what is left after a failure, whatever is a volume must hold it.
    """

    given: Sequence[Asked] = ()
    asked: Asked = MAKE
    made: Sequence[str] = ()
    gone_then: Sequence[str] = ()

    def request(self, subject: Subject, asked: Asked) -> Answer:
        verb, path, body = asked
        return subject.api.request(verb, self.path(subject, path), self._named(subject, body) or None)

    def _named(self, subject: Subject, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the names of this scene in it."""
        pool, other_pool = subject.world.ground.pool, subject.other_pool
        names = {"what": self.what, "other": self.other, "pool": pool, "other_pool": other_pool}
        return {
            key: value.format(**names)
            if isinstance(value, str)
            else self._named(subject, value)
            if isinstance(value, dict)
            else value
            for key, value in body.items()
        }

    def path(self, subject: Subject, path: str) -> str:
        pool = subject.other_pool if path.startswith("@") else subject.world.ground.pool
        below = path.removeprefix("@").format(what=self.what, other=self.other)
        return f"/1.0/storage-pools/{pool}/volumes/custom{below}"

    def file(self, subject: Subject, path: str) -> Path:
        """The file of a volume, on the host."""
        pool = subject.other_pool if path.startswith("@") else subject.world.ground.pool
        name = path.removeprefix("@").format(what=self.what, other=self.other).strip("/")
        return subject.directory / "storage-pools" / pool / "custom" / f"default_{name}" / "file"

    def prepare(self, subject: Subject) -> None:
        for number, asked in enumerate(self.given):
            answer = self.request(subject, asked)
            assert answer.status < 300, answer.body
            if answer.status == 202:
                subject.api.wait(answer)
            if number == 0:
                self.file(subject, "/{what}").write_text(CONTENT)

    def ask(self, subject: Subject) -> Answer:
        return self.request(subject, self.asked)

    def achieved(self, subject: Subject) -> str:
        return self.exist(subject, self.made, self.gone_then)

    def undone(self, subject: Subject) -> str:
        return self.exist(subject, self.gone_then, self.made)

    def exist(self, subject: Subject, there: Sequence[str], gone: Sequence[str]) -> str:
        problems = [self.there(subject, self.path(subject, path)) for path in there]
        problems += [self.gone(subject, self.path(subject, path)) for path in gone]
        problems += [self._empty(subject, path) for path in there if self.given and path.count("/") == 1]
        return "; ".join(problem for problem in problems if problem)

    def _empty(self, subject: Subject, path: str) -> str:
        file = self.file(subject, path)
        return "" if file.exists() and file.read_text() == CONTENT else f"{path} has not what was in the volume"

    def clear(self, subject: Subject) -> None:
        for pool in ("", "@"):
            for name in (self.what, self.other):
                listed = subject.api.request("GET", self.path(subject, f"{pool}/{name}/snapshots"))
                for url in listed.metadata if listed.status == 200 else ():
                    subject.world.gone(url)
                subject.world.gone(self.path(subject, f"{pool}/{name}"))


@dataclass
class Move(VolumeScene):
    """Into the other pool. When it fails after its rows have changed sides it is done all the same, and nothing of it is half."""

    def undone(self, subject: Subject) -> str:
        return super().undone(subject) and self.achieved(subject)


def scene_of(
    kind: type[VolumeScene], saga: Saga, given: Sequence[Asked], asked: Asked, made: Sequence[str], gone: Sequence[str]
) -> Callable[[], Scene]:
    """The maker of a scene."""
    steps = [step.name for step in saga.steps]
    undos = [step.name for step in saga.steps if step.undo is not None]
    more: dict[str, Any] = {"given": given, "asked": asked, "made": made, "gone_then": gone}
    return lambda: kind(saga.name, saga.name, "storage", steps, undos, **more)


def of_volumes() -> list[Callable[[], Scene]]:
    """A maker for each scene."""

    def scene(
        saga: Saga, given: Sequence[Asked], asked: Asked, made: Sequence[str], gone: Sequence[str]
    ) -> Callable[[], Scene]:
        return scene_of(VolumeScene, saga, given, asked, made, gone)

    source = {"type": "copy", "name": "{what}", "pool": "{pool}"}
    copy: Asked = ("POST", "", {"name": "{other}", "type": "custom", "source": source})
    refresh: Asked = ("POST", "", {"name": "{other}", "type": "custom", "source": {**source, "refresh": True}})
    make_other: Asked = (MAKE[0], MAKE[1], {**MAKE[2], "name": "{other}"})
    away: Asked = ("POST", "/{what}", {"name": "{other}", "pool": "{other_pool}"})
    within: Asked = ("POST", "/{what}", {"name": "{other}", "pool": "{pool}"})
    snapped = (MAKE, SNAPSHOT)
    at, other_at = "/{what}/snapshots", "/{other}/snapshots"
    was, moved = ["/{what}", f"{at}/s"], ["@/{other}", f"@{other_at}/s"]
    return [
        scene(volume.CREATE, (), MAKE, ["/{what}"], []),
        scene(volume.COPY, snapped, copy, ["/{other}", f"{other_at}/s"], []),
        scene(volume.REFRESH, (MAKE, SNAPSHOT, make_other), refresh, [f"{other_at}/s"], []),
        scene(volume.RENAME, (MAKE,), ("POST", "/{what}", {"name": "{other}"}), ["/{other}"], ["/{what}"]),
        scene(volume.MOVE_WITHIN, snapped, within, ["/{other}", f"{other_at}/s"], was),
        scene_of(Move, volume.MOVE, snapped, away, moved, was),
        scene(volume.DELETE, (MAKE,), ("DELETE", "/{what}", {}), [], ["/{what}"]),
        scene(snapshot.CREATE, (MAKE,), SNAPSHOT, [f"{at}/s"], []),
        scene(snapshot.RENAME, snapped, ("POST", f"{at}/s", {"name": "t"}), [f"{at}/t"], [f"{at}/s"]),
        scene(snapshot.DELETE, snapped, ("DELETE", f"{at}/s", {}), [], [f"{at}/s"]),
        scene(snapshot.RESTORE, snapped, ("PUT", "/{what}", {"restore": "s"}), [], []),
    ]
