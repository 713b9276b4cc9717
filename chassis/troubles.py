"""What a service cannot have at the moment, told as LXD's warnings: reported when it fails, resolved when it works again.

Telling never fails and holds nobody up for longer than a moment: what could not be told is told the next time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from chassis import rpc
from chassis.errors import Fault
from gen.nubibus.control.v1 import control_pb2

WARNINGS = "nubibus.control.v1.Warnings"
PATIENCE = 2.0  # seconds
Tell = Callable[[str, str, str], Awaitable[None]]  # URL of the thing, its project, what is wrong ("": nothing)
log = structlog.get_logger(__name__)


async def untold(_url: str, _project: str, _problem: str) -> None:
    """Where nobody listens."""


class Troubles:
    """Warnings of one type, each about one thing."""

    def __init__(self, type_: str, severity: str, member: str) -> None:
        self.type = type_
        self.severity = severity
        self.member = member
        self._told: dict[str, bool] = {}  # by URL, whether the last word was of a problem

    async def tell(self, url: str, project: str, problem: str) -> None:
        """Report a problem, or resolve it where there is none; that nothing is wrong is said once."""
        if not problem and self._told.get(url) is False:
            return
        report = control_pb2.WarningReport(
            type=self.type,
            severity=self.severity,
            message=problem,
            project=project,
            entity_url=url,
            member=self.member,
        )
        verb = "Report" if problem else "Resolve"
        try:
            await rpc.call(WARNINGS, verb, report, timeout=PATIENCE, context=rpc.as_itself())
        except Fault as fault:
            self._told.pop(url, None)
            log.debug("a warning could not be told", type=self.type, about=url, error=fault.text)
            return
        self._told[url] = bool(problem)
