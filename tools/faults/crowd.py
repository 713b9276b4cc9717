"""Many clients at once, over a few names: what they were answered must explain what is there in the end, and nothing may be left.

python -m tools.faults.crowd --clients 50 --names 20 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.client import Answer, eventually
from tests.conformance.world import unique
from tools.faults import debris
from tools.faults.lifecycle import ABSENT, RUNNING, STOPPED, TRIED, Done, explained
from tools.faults.subject import DEADLINE, Subject, subject

ACTIONS = ("create", "create", "start", "start", "stop", "stop", "rename", "delete")
UNFORESEEN = re.compile(r"\b[A-Z]\w*(Error|Exception): |Traceback|not in the log|'NoneType'")


@dataclass
class Crowd:
    """Everything that was answered."""

    subject: Subject
    names: Sequence[str]
    done: dict[str, list[Done]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def run(self, clients: int, seconds: float, seed: int) -> None:
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(random.Random(seed + n), until)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, draw: random.Random, until: float) -> None:
        while time.monotonic() < until:
            action, name, other = draw.choice(ACTIONS), draw.choice(self.names), draw.choice(self.names)
            sent = time.monotonic()
            try:
                answer = self._ask(action, name, other)
                text = self._outcome(answer)
            except Exception as error:
                text = f"no answer: {type(error).__name__}: {error}"
            self._note(action, name, other, sent, text)

    def _ask(self, action: str, name: str, other: str) -> Answer:
        api, path = self.subject.api, f"/1.0/instances/{name}"
        if action == "create":
            return api.request("POST", "/1.0/instances", self.subject.world.body(name), timeout=DEADLINE)
        if action == "delete":
            return api.request("DELETE", path, timeout=DEADLINE)
        if action == "rename":
            return api.request("POST", path, {"name": other}, timeout=DEADLINE)
        body: dict[str, Any] = {"action": action, "timeout": 30, "force": action == "stop"}
        return api.request("PUT", f"{path}/state", body, timeout=DEADLINE)

    def _outcome(self, answer: Answer) -> str:
        """ "" for a success, else why not."""
        if answer.status != 202:
            return f"{answer.status} {answer.error}"
        ended = self.subject.api.finished(answer.operation, DEADLINE)
        return "" if ended["status"] == "Success" else f"Failure {ended['err']}"

    def _note(self, action: str, name: str, other: str, sent: float, text: str) -> None:
        answered = time.monotonic()
        shown = re.sub(r"[fg]?c?-[0-9a-f]+", "NAME", text)
        with self._turn:
            self.answers[f"{action}: {shown or 'Success'}"] += 1
            if text.startswith(("no answer", "50")) or UNFORESEEN.search(text):
                self.wrong.append(f"{action} {name}: {text}")
            if action == "stop" and text:
                self.done[name].append(Done(TRIED, sent, answered))
            if text or (action == "rename" and name == other):
                return
            if action == "rename":
                self.done[name].append(Done("leave", sent, answered))
                self.done[other].append(Done("arrive", sent, answered))
            else:
                self.done[name].append(Done(action, sent, answered))

    def unexplained(self) -> list[str]:
        """Names whose state in the end no order of the successes leads to."""
        found = []
        for name in self.names:
            state = self._state(name)
            if not explained(self.done[name], state):
                told = " ".join(f"{d.action}[{d.sent:.3f}-{d.answered:.3f}]" for d in self.done[name][-12:])
                found.append(f"{name} is {state} after {told}")
        return found

    def _state(self, name: str) -> str:
        answer = eventually(lambda: self.subject.api.request("GET", f"/1.0/instances/{name}/state"), DEADLINE)
        if answer.status == 404:
            return ABSENT
        return RUNNING if answer.metadata["status"] == "Running" else STOPPED


def play(found: Subject, *, clients: int, names: int, seconds: float, seed: int) -> Crowd:
    """A crowd on a server; AssertionError when it ended in what cannot be, or left something."""
    warm = found.world.instance(start=True)
    found.world.remove_instance(warm)
    before = debris.look(found)
    crowd = Crowd(found, [unique("c") for _ in range(names)])
    crowd.run(clients, seconds, seed)
    problems = [*crowd.wrong[:10], *crowd.unexplained()]
    told = json.dumps(dict(crowd.answers.most_common()), indent=1)
    assert not problems, "\n".join([told, *problems])
    for name in crowd.names:
        found.world.remove_instance(name)
    eventually(lambda: debris.look(found) == before or _differ(found, before), DEADLINE, pause=0.5)
    return crowd


def _differ(found: Subject, before: Counter[str]) -> bool:
    now = debris.look(found)
    raise AssertionError(f"left: {[*(now - before)][:20]}, missing: {[*(before - now)][:20]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.faults.crowd", description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--names", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with subject() as found:
        crowd = play(found, **vars(options))
    print(json.dumps(dict(crowd.answers.most_common()), indent=1))
    done = sum(each.action != TRIED for told in crowd.done.values() for each in told)
    print(f"{crowd.answers.total()} requests, {done} successes, all explained, nothing left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
