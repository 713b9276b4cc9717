"""One case: a scene, a point of its journal, a victim. Playing it tells what broke, or nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.conformance.client import Answer, eventually
from tools.faults import debris
from tools.faults.scenes import Scene
from tools.faults.subject import BUS, DEADLINE, STARTER, Subject, pause

OWNER = "owner"
UNANSWERED = "503: whether it was done is not known"
SETTLE = 30.0  # seconds in which converging tasks must have put right what a kill left


class Broken(Exception):
    """A promise that was not kept."""


@dataclass(frozen=True)
class Case:
    make: Callable[[], Scene]
    point: str
    victim: str

    @property
    def scene(self) -> Scene:
        return self.make()

    @property
    def name(self) -> str:
        return f"{self.scene.name}:{self.point} x {self.victim}"

    @property
    def undoing(self) -> bool:
        return ".undo." in self.point


def cases_of(make: Callable[[], Scene]) -> Iterator[Case]:
    """Every point of a scene with every victim that it has to do with."""
    scene = make()
    points = list(scene.points) or _journal(scene)
    victims = [OWNER, "gateway", BUS, *([STARTER] if scene.starter else [])]
    for point in points:
        for victim in victims:
            yield Case(make, point, victim)


def _journal(scene: Scene) -> list[str]:
    """The points of a saga."""
    points = [f"{step}.do.{side}" for step in scene.steps for side in ("before", "after")]
    points += ["finish.before", "finish.after"]
    return points + [f"{step}.undo.{side}" for step in reversed(scene.undos) for side in ("before", "after")]


@dataclass
class Outcome:
    """What became of a case: `ended` is how the operation ended, `broken` what did not hold."""

    case: Case
    ended: str = ""
    broken: str = ""
    seconds: float = 0.0


class Asking(threading.Thread):
    """The request, on a thread of its own: it may never get an answer."""

    def __init__(self, scene: Scene, subject: Subject) -> None:
        super().__init__(daemon=True)
        self.scene = scene
        self.subject = subject
        self.answer: Answer | None = None

    def run(self) -> None:
        try:
            self.answer = self.scene.ask(self.subject)
        except Exception:  # the connection died: what matters is what the log says
            self.answer = None

    def refused(self) -> bool:
        """False; raises if the request was refused, so that nobody waits for what will not come."""
        if self.answer is not None and 400 <= self.answer.status != 503:
            raise Broken(f"the request was refused: {self.answer.error}")
        return False


def _warm_up(subject: Subject) -> None:
    """What is made once and kept (the unpacked image, folders, the row of the server's configuration) is there before the first look."""
    subject.api.patch("/1.0", {"config": {"user.warm": "yes"}})
    name = subject.world.instance(start=True)
    subject.world.remove_instance(name)


class Player:
    """Plays cases on one server, each from the same beginning."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        _warm_up(subject)
        self.before: Counter[str] = debris.look(subject)

    def play(self, case: Case) -> Outcome:
        outcome = Outcome(case)
        began = time.monotonic()
        scene = case.scene
        try:
            self._play(case, scene, outcome)
        except Exception as error:
            outcome.broken = f"{type(error).__name__}: {str(error)[:600]}"
        finally:
            self.subject.disarm()
        self._clean(scene, outcome)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _play(self, case: Case, scene: Scene, outcome: Outcome) -> None:
        subject = self.subject
        subject.wait_ready()
        scene.prepare(subject)
        known = set(subject.rows())
        action = "kill" if case.victim == OWNER else "hold"
        failing = f"{scene.saga}:finish.before=fail," if case.undoing else ""
        pid = subject.pid(scene.part if case.victim == OWNER else case.victim)
        if scene.saga:
            subject.arm(f"{failing}{scene.saga}:{case.point}={action}")
        asking = Asking(scene, subject)
        asking.start()
        self._strike(case, scene, pid, asking)
        asking.join(DEADLINE)
        outcome.ended = self._ended(scene, asking, known) if scene.durable else self._answered(asking)
        if left := _settled(lambda: self._problem(scene, outcome.ended)):
            raise Broken(f"after {outcome.ended}: {left}")
        if left := scene.again(subject):
            raise Broken(f"after {outcome.ended}: {left}")
        if case.undoing and outcome.ended == "Success":
            raise Broken("it was to fail and succeeded")

    def _problem(self, scene: Scene, ended: str) -> str:
        """What is not as an operation that ended so must leave it."""
        if ended == "Success":
            return scene.achieved(self.subject)
        problem = scene.undone(self.subject)
        return problem and scene.achieved(self.subject) if ended == UNANSWERED else problem

    def _strike(self, case: Case, scene: Scene, pid: int, asking: Asking) -> None:
        """Wait for the point and kill the victim there."""
        subject = self.subject
        if not scene.saga:
            eventually(lambda: scene.under_way(subject), DEADLINE)
            victim = scene.part if case.victim == OWNER else case.victim
            subject.wait_replaced(victim, subject.kill(victim))
            subject.wait_ready()
            scene.struck(subject, case.victim)
            return
        if case.victim == OWNER:
            eventually(lambda: subject.fired() or asking.refused(), DEADLINE, pause=0.005)
            subject.wait_replaced(scene.part, pid)
            return
        eventually(lambda: subject.reached.exists() or asking.refused(), DEADLINE, pause=0.005)
        struck = subject.kill(case.victim)
        subject.wait_replaced(case.victim, struck)
        subject.reached.unlink()

    def _answered(self, asking: Asking) -> str:
        """How a change without an operation ended. A client without an answer finds it done or not done, nothing between."""
        answer = asking.answer
        if answer is not None and answer.status in (200, 201, 202):
            return "Success"
        self.subject.wait_ready()
        if answer is None or answer.status in (0, 503):
            return UNANSWERED
        return f"Failure ({answer.error})"

    def _ended(self, scene: Scene, asking: Asking, known: set[str]) -> str:
        """How the operation ended, asked under the id that was accepted."""
        found = self._operation(scene, asking, known)
        if found is None:
            raise Broken("the operation was run and is not in the log")
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            answer = self.subject.try_request("GET", f"/1.0/operations/{found}/wait?timeout=10")
            if answer.status == 404:
                raise Broken(f"operation {found} answers 404")
            if answer.status == 200 and answer.metadata["status_code"] >= 200:
                return "Success" if answer.metadata["status"] == "Success" else f"Failure ({answer.metadata['err']})"
            pause()
        raise Broken(f"operation {found} has not ended")

    def _operation(self, scene: Scene, asking: Asking, known: set[str]) -> str | None:
        if asking.answer is not None and asking.answer.status == 202:
            return asking.answer.operation.rpartition("/")[2]
        for name, row in eventually(self.subject.rows, DEADLINE).items():
            if name.startswith("row.operation.") and name not in known and row.get("saga") == scene.saga:
                return str(row["id"])
        return None

    def _clean(self, scene: Scene, outcome: Outcome) -> None:
        """The objects can be deleted, and then the host is as it was."""
        subject = self.subject
        try:
            subject.wait_ready()
            scene.clear(subject)
            left = _settled(self._difference)
        except Exception as error:
            left = f"cannot be cleared: {type(error).__name__}: {str(error)[:300]}"
        if left:
            outcome.broken = f"{outcome.broken}; left: {left}" if outcome.broken else f"left: {left}"
            self.before = debris.look(subject)

    def _difference(self) -> str:
        now = debris.look(self.subject)
        more, less = now - self.before, self.before - now
        return ", ".join([*(f"+{line}" for line in more), *(f"-{line}" for line in less)])[:900]


def _settled(problem: Callable[[], str]) -> str:
    """What is wrong still when it has had its time."""
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            found: Any = problem()
        except AssertionError as error:
            found = str(error)
        if not found or time.monotonic() > deadline:
            return str(found)
        time.sleep(0.15)
