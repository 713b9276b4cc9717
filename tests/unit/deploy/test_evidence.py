"""What the play shows of an answer that was not expected."""

from __future__ import annotations

from datetime import UTC, datetime

from tools.play.evidence import Odd, report

AT = datetime(2026, 11, 28, 6, 12, 50, 500000, UTC).timestamp()
GATEWAY = """\
{"event":"long before","level":"info","timestamp":"2026-11-28T06:12:00.000000Z"}
{"event":"a request failed","level":"error","timestamp":"2026-11-28T06:12:50.400000Z"}
Traceback of it
{"event":"much later","level":"error","timestamp":"2026-11-28T06:13:40.000000Z"}
"""
NATS = """\
[1] 2026/11/28 06:12:51.000000 [INF] Starting restore
[1] 2026/11/28 06:12:59.000000 [WRN] Slow
"""


def test_an_odd_answer_comes_with_what_was_written_near_it() -> None:
    odd = [Odd(AT + 9, "GET", "/1.0", "500", "again"), Odd(AT, "GET", "/1.0", "500", "what")]
    assert report(odd, [("gateway-0-gateway", GATEWAY), ("nats-0-nats", NATS)], AT - 5) == [
        "06:12:50.500 GET /1.0 500: what",
        '    gateway-0-gateway: {"event":"a request failed","level":"error","timestamp":"2026-11-28T06:12:50.400000Z"}',
        "    gateway-0-gateway: Traceback of it",
        "    nats-0-nats: [1] 2026/11/28 06:12:51.000000 [INF] Starting restore",
        '  gateway-0-gateway: {"event":"a request failed","level":"error","timestamp":"2026-11-28T06:12:50.400000Z"}',
        '  gateway-0-gateway: {"event":"much later","level":"error","timestamp":"2026-11-28T06:13:40.000000Z"}',
        "  nats-0-nats: [1] 2026/11/28 06:12:59.000000 [WRN] Slow",
    ]
