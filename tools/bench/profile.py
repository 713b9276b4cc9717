"""Where a start's milliseconds go: the journal of the start's operation, whose entries bear the time each step took."""

from __future__ import annotations

import statistics
from collections import defaultdict

from tools.bench.journal import journal_profile
from tools.bench.subject import Subject, milliseconds


def start_profile(subject: Subject, rounds: int = 10) -> str:
    """A Markdown table of the steps of `instance.start`, median of `rounds`.

    Reads the additive field `steps` that Nubibus gives an operation when asked with `?steps=true`: name, milliseconds.
    """
    name = subject.world.instance()
    steps: dict[str, list[float]] = defaultdict(list)
    whole = []
    for _ in range(rounds):
        path = f"/1.0/instances/{name}/state"
        operation: list[str] = []

        def start(path: str = path, operation: list[str] = operation) -> None:
            answer = subject.api.request("PUT", path, {"action": "start"})
            subject.api.wait(answer)
            operation.append(answer.operation)

        whole.append(milliseconds(start))
        for step in subject.api.get(f"{operation[0]}?steps=true").get("steps", []):
            steps[step["name"]].append(step["milliseconds"])
        subject.world.stop(name)
    subject.world.close()
    lines = ["| step | ms (median) |", "|---|---|"]
    lines += [f"| {step} | {statistics.median(values):.2f} |" for step, values in steps.items()]
    lines.append(f"| whole, as the client sees it | {statistics.median(whole):.2f} |")
    told = "Of these, and of a create, the writes to the log, each until it is on the disk, as a third party sees them, so at the least:"
    return "\n".join([*lines, "", told, "", journal_profile(subject)])
