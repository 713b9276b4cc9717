"""What a part counts about itself: per method the number, the errors and the time, in the shape of
`$SRV.STATS` and of Prometheus.

One `Counters` a process. Reading it is cheap; Prometheus is only rendered when asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(slots=True)
class MethodCount:
    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    running: int = 0
    last_error: str = ""


@dataclass(slots=True)
class Counters:
    """Counts by method name "Volumes.Ensure"."""

    part: str
    methods: dict[str, MethodCount] = field(default_factory=dict)

    @contextmanager
    def measure(self, method: str) -> Iterator[MethodCount]:
        count = self.methods.setdefault(method, MethodCount())
        count.requests += 1
        count.running += 1
        started = time.perf_counter()
        try:
            yield count
        except Exception as error:
            count.errors += 1
            count.last_error = str(error)[:200]
            raise
        finally:
            count.running -= 1
            count.seconds += time.perf_counter() - started

    def endpoints(self) -> list[dict[str, Any]]:
        """The `endpoints` member of a NATS micro STATS answer; times in nanoseconds."""
        return [
            {
                "name": name,
                "subject": f"rpc.{self.part}.{name}",
                "num_requests": count.requests,
                "num_errors": count.errors,
                "last_error": count.last_error,
                "processing_time": int(count.seconds * 1e9),
                "average_processing_time": int(count.seconds * 1e9 / count.requests) if count.requests else 0,
            }
            for name, count in sorted(self.methods.items())
        ]


class CallCollector(Collector):
    """The counters as Prometheus series."""

    def __init__(self, counters: Counters) -> None:
        self.counters = counters

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        calls = CounterMetricFamily("nubibus_calls", "Calls served", labels=["part", "method"])
        errors = CounterMetricFamily("nubibus_call_errors", "Calls that ended in a fault", labels=["part", "method"])
        seconds = CounterMetricFamily("nubibus_call_seconds", "Time spent in calls", labels=["part", "method"])
        running = GaugeMetricFamily("nubibus_calls_running", "Calls being served", labels=["part", "method"])
        for name, count in self.counters.methods.items():
            labels = [self.counters.part, name]
            calls.add_metric(labels, count.requests)
            errors.add_metric(labels, count.errors)
            seconds.add_metric(labels, count.seconds)
            running.add_metric(labels, count.running)
        yield from (calls, errors, seconds, running)


def registry(counters: Counters) -> CollectorRegistry:
    """A registry with the process's own series and the counters; further collectors may be registered on it."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    made.register(CallCollector(counters))
    return made


def exposition(found: CollectorRegistry) -> bytes:
    """Prometheus text format."""
    return generate_latest(found)
