"""The matrix as a table, and its place in docs/reliability.md."""

from __future__ import annotations

import json
import platform
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tools.faults.cases import UNANSWERED, Case, Outcome

BEGIN, END = "<!-- matrix: written by tools/faults --all -->", "<!-- end of the matrix -->"


def matrix(outcomes: Sequence[Outcome]) -> str:
    """Operation x step, a column a victim: ok, or what broke."""
    victims = list(dict.fromkeys(outcome.case.victim for outcome in outcomes))
    table: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for outcome in outcomes:
        table[outcome.case.scene.name, outcome.case.point][outcome.case.victim] = _cell(outcome)
    lines = [f"| operation | point | {' | '.join(victims)} |", f"|---|---|{'---|' * len(victims)}"]
    for (name, point), cells in table.items():
        lines.append(f"| {name} | {point} | {' | '.join(cells.get(victim, '') for victim in victims)} |")
    return "\n".join(lines)


def _cell(outcome: Outcome) -> str:
    if outcome.broken:
        return f"**{outcome.broken[:120].replace('|', '/')}**"
    if outcome.ended == UNANSWERED:
        return "ok, unanswered"
    return "ok" if outcome.ended == "Success" else "ok, undone"


def summary(outcomes: Sequence[Outcome]) -> str:
    broken = sum(bool(outcome.broken) for outcome in outcomes)
    held = [outcome for outcome in outcomes if not outcome.broken]
    unanswered = sum(outcome.ended == UNANSWERED for outcome in held)
    undone = sum(outcome.ended != "Success" for outcome in held) - unanswered
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"{len(outcomes)} cases in {seconds / 60:.0f} min on Linux {platform.release()}, {time.strftime('%Y-%m-%d')}: "
        f"{len(held)} ok ({undone} of them ended as a clean Failure, {unanswered} without an answer), {broken} broken."
    )


def line(outcome: Outcome) -> str:
    """An outcome as it is recorded."""
    return json.dumps([outcome.case.name, outcome.ended, outcome.broken, round(outcome.seconds, 1)])


def read(files: Sequence[Path], cases: Sequence[Case]) -> list[Outcome]:
    """Recorded outcomes in the order of the cases; of a case that was played twice the last one counts."""
    known = {case.name: case for case in cases}
    found = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    last = {name: (ended, broken, seconds) for name, ended, broken, seconds in found}
    return [Outcome(known[name], *last[name]) for name in known if name in last]


def write(page: Path, outcomes: Sequence[Outcome]) -> None:
    """Replace the matrix in the page."""
    text = page.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{summary(outcomes)}\n\n{matrix(outcomes)}\n{END}{tail}")
