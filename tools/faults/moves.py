"""An instance that goes into another project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.instances.sagas import move
from tests.conformance.client import Answer
from tools.faults.scenes import Scene
from tools.faults.subject import DEADLINE, Subject


@dataclass
class Move(Scene):
    """The other project shares the profiles and images of the default one."""

    def prepare(self, subject: Subject) -> None:
        config = {"features.profiles": "false", "features.images": "false"}
        subject.api.post("/1.0/projects", {"name": self.other, "config": config})
        self.make(subject)

    def ask(self, subject: Subject) -> Answer:
        body = {"name": self.what, "project": self.other, "migration": True}
        return subject.api.request("POST", self.here, body)

    @property
    def here(self) -> str:
        return f"/1.0/instances/{self.what}"

    @property
    def away(self) -> str:
        return f"{self.here}?project={self.other}"

    def achieved(self, subject: Subject) -> str:
        return self.gone(subject, self.here) or self.there(subject, self.away)

    def undone(self, subject: Subject) -> str:
        missing = self.gone(subject, self.away)
        if not missing:
            subject.api.wait(self.act(subject, "start"), DEADLINE)
        return missing

    def clear(self, subject: Subject) -> None:
        if not self.there(subject, self.away):
            subject.api.delete(self.away)
        super().clear(subject)
        subject.world.gone(f"/1.0/projects/{self.other}")


def of_moves() -> list[Callable[[], Scene]]:
    """A maker for each scene."""
    steps = [step.name for step in move.SAGA.steps]
    undos = [step.name for step in move.SAGA.steps if step.undo is not None]
    return [lambda: Move(move.SAGA.name, move.SAGA.name, "instances", steps, undos)]
