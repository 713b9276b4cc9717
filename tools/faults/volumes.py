"""Custom volumes and their snapshots: scenes that are told by what exists before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.saga import Saga
from services.storage.sagas import snapshot, volume
from tests.conformance.client import Answer
from tools.faults.scenes import Scene
from tools.faults.subject import Subject

Asked = tuple[str, str, dict[str, Any]]  # verb, path below the volumes of the pool, body
MAKE: Asked = ("POST", "", {"name": "{what}", "type": "custom", "content_type": "filesystem", "config": {}})
SNAPSHOT: Asked = ("POST", "/{what}/snapshots", {"name": "s"})


@dataclass
class VolumeScene(Scene):
    """`given` is asked for first; then `asked`. `made` and `gone`: what exists only after it, and only before it."""

    given: Sequence[Asked] = ()
    asked: Asked = MAKE
    made: Sequence[str] = ()
    gone_then: Sequence[str] = ()

    def _request(self, subject: Subject, asked: Asked) -> Answer:
        verb, path, body = asked
        named = {
            key: value.format(what=self.what, other=self.other) if isinstance(value, str) else value
            for key, value in body.items()
        }
        if "source" in named:
            named["source"] = {**named["source"], "name": self.what, "pool": subject.world.ground.pool}
        return subject.api.request(verb, self._path(subject, path), named or None)

    def _path(self, subject: Subject, path: str) -> str:
        base = f"/1.0/storage-pools/{subject.world.ground.pool}/volumes/custom"
        return base + path.format(what=self.what, other=self.other)

    def prepare(self, subject: Subject) -> None:
        for asked in self.given:
            answer = self._request(subject, asked)
            assert answer.status < 300, answer.body
            if answer.status == 202:
                subject.api.wait(answer)

    def ask(self, subject: Subject) -> Answer:
        return self._request(subject, self.asked)

    def achieved(self, subject: Subject) -> str:
        return self._exist(subject, self.made, self.gone_then)

    def undone(self, subject: Subject) -> str:
        return self._exist(subject, self.gone_then, self.made)

    def _exist(self, subject: Subject, there: Sequence[str], gone: Sequence[str]) -> str:
        problems = [self.there(subject, self._path(subject, path)) for path in there]
        problems += [self.gone(subject, self._path(subject, path)) for path in gone]
        return "; ".join(problem for problem in problems if problem)

    def clear(self, subject: Subject) -> None:
        for name in (self.what, self.other):
            listed = subject.api.request("GET", self._path(subject, f"/{name}/snapshots"))
            for url in listed.metadata if listed.status == 200 else ():
                subject.world.gone(url)
            subject.world.gone(self._path(subject, f"/{name}"))


def of_volumes() -> list[Callable[[], Scene]]:
    """A maker for each scene."""

    def scene(
        saga: Saga, given: Sequence[Asked], asked: Asked, made: Sequence[str], gone: Sequence[str]
    ) -> Callable[[], Scene]:
        steps = [step.name for step in saga.steps]
        undos = [step.name for step in saga.steps if step.undo is not None]
        more: dict[str, Any] = {"given": given, "asked": asked, "made": made, "gone_then": gone}
        return lambda: VolumeScene(saga.name, saga.name, "storage", steps, undos, **more)

    copy: Asked = ("POST", "", {"name": "{other}", "type": "custom", "source": {"type": "copy"}})
    snapped = (MAKE, SNAPSHOT)
    at = "/{what}/snapshots"
    return [
        scene(volume.CREATE, (), MAKE, ["/{what}"], []),
        scene(volume.COPY, (MAKE, SNAPSHOT), copy, ["/{other}", "/{other}/snapshots/s"], []),
        scene(volume.RENAME, (MAKE,), ("POST", "/{what}", {"name": "{other}"}), ["/{other}"], ["/{what}"]),
        scene(volume.DELETE, (MAKE,), ("DELETE", "/{what}", {}), [], ["/{what}"]),
        scene(snapshot.CREATE, (MAKE,), SNAPSHOT, [f"{at}/s"], []),
        scene(snapshot.RENAME, snapped, ("POST", f"{at}/s", {"name": "t"}), [f"{at}/t"], [f"{at}/s"]),
        scene(snapshot.DELETE, snapped, ("DELETE", f"{at}/s", {}), [], [f"{at}/s"]),
        scene(snapshot.RESTORE, snapped, ("PUT", "/{what}", {"restore": "s"}), [], []),
    ]
