"""`python -m tools.faults`: plays cases and prints the matrix."""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tools.faults import report
from tools.faults.backups import of_backups
from tools.faults.cases import Case, Outcome, Player, cases_of
from tools.faults.changes import of_changes
from tools.faults.fetched import of_fetched_images
from tools.faults.moves import of_moves
from tools.faults.scenes import Scene, of_sagas
from tools.faults.subject import subject
from tools.faults.unsaga import without_sagas
from tools.faults.volumes import of_volumes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"

BOUNDED = (
    "instance.create:volume.do.after x owner",
    "instance.create:volume.undo.before x owner",
    "instance.start:devices.do.after x nats",
    "instance.start:container.do.after x owner",
    "instance.start:container.do.before x starter",
    "instance.restart:stop.do.after x gateway",
    "instance.stop:container.do.after x owner",
    "instance.freeze:freeze.do.after x owner",
    "instance.rename:volume.do.after x owner",
    "instance.update:add.do.after x owner",
    "instance.hurry:hurry.do.before x owner",
    "instance.delete:host.do.before x owner",
    "profile.update:reach.do.before x owner",
    "image.import:place.do.after x owner",
    "image.publish:export.do.after x owner",
    "storage-volume.move:switch.do.after x owner",
    "storage-volume-backup.restore:unpack.do.after x owner",
    "profile.create:instances_profile.after x owner",
    "network-forward.create:network_forward.before x owner",
    "storage-pool.create (dir):create.do.after x owner",
    "storage-pool.delete (dir):destroy.do.before x nats",
    "network.create:record.do.after x owner",
    "network.rename:links.do.after x gateway",
    "exec over websockets:while it runs x gateway",
)


def scenes() -> list[Callable[[], Scene]]:
    sagas = (*of_sagas(), *of_moves(), *of_fetched_images(), *of_volumes(), *of_backups())
    return [*sagas, *of_changes(), *without_sagas()]


def every() -> list[Case]:
    return [case for make in scenes() for case in cases_of(make)]


def bounded() -> list[Case]:
    """The share of ./test: each kind of operation and each victim at least once."""
    known = {case.name: case for case in every()}
    return [known[name] for name in BOUNDED]


def play(cases: list[Case], record: Path | None = None) -> list[Outcome]:
    outcomes = []
    with subject() as found:
        player = Player(found)
        for number, case in enumerate(cases, 1):
            outcome = player.play(case)
            outcomes.append(outcome)
            if record is not None:
                with record.open("a") as lines:
                    lines.write(report.line(outcome) + "\n")
            told = f"BROKEN {outcome.broken}" if outcome.broken else outcome.ended
            print(f"[{number}/{len(cases)}] {case.name}: {told} ({outcome.seconds:.1f} s)", flush=True)
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)  # so that the server goes, however this ends
    parser = argparse.ArgumentParser(prog="tools/faults", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--all", action="store_true", help="every case; docs/reliability.md gets the matrix")
    choice.add_argument("--bounded", action="store_true", help="the share that ./test runs")
    choice.add_argument("--names", type=Path, metavar="FILE", help="cases whose names stand in a file, a line each")
    choice.add_argument("--only", metavar="PATTERN", help="cases whose name matches, as 'instance.start:* x owner'")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="append each outcome to this file, as a line of JSON"
    )
    parser.add_argument(
        "--write", nargs="+", type=Path, metavar="FILE", help="write the page from recorded outcomes and end"
    )
    parser.add_argument("--list", action="store_true", help="print their names and end")
    options = parser.parse_args(arguments)
    if options.write:
        report.write(PAGE, report.read(options.write, every()))
        return 0
    cases = bounded() if options.bounded else every()
    if options.only:
        cases = [case for case in cases if fnmatch.fnmatch(case.name, options.only)]
    if options.names:
        wanted = set(options.names.read_text().splitlines())
        cases = [case for case in cases if case.name in wanted]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    outcomes = play(cases, options.record)
    print(report.matrix(outcomes))
    if options.all:
        report.write(PAGE, outcomes)
    return any(outcome.broken for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
