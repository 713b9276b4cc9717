"""The balancer of the play gives pods the new connections that a Service would give them."""

from __future__ import annotations

from tools.play.balancer import Endpoints, Member

TEN = 10.0


def test_a_pod_is_in_from_its_first_readiness() -> None:
    endpoints = Endpoints(TEN, lambda: 0.0)
    assert endpoints.of([Member("a", "unready")]) == []
    assert endpoints.of([Member("a", "ready")]) == ["a"]


def test_an_unready_pod_goes_when_the_threshold_is_reached() -> None:
    now = 0.0
    endpoints = Endpoints(TEN, lambda: now)
    endpoints.of([Member("a", "ready")])
    now = 9.9
    assert endpoints.of([Member("a", "unready")]) == ["a"]
    now = 10.0
    assert endpoints.of([Member("a", "unready")]) == []
    assert endpoints.of([Member("a", "ready")]) == ["a"]


def test_a_dead_pod_goes_at_once_and_must_be_ready_to_come_back() -> None:
    endpoints = Endpoints(TEN, lambda: 0.0)
    endpoints.of([Member("a", "ready"), Member("b", "ready")])
    assert endpoints.of([Member("a", "dead"), Member("b", "ready")]) == ["b"]
    assert endpoints.of([Member("a", "unready"), Member("b", "ready")]) == ["b"]


def test_a_pod_that_ends_is_out() -> None:
    endpoints = Endpoints(TEN, lambda: 0.0)
    endpoints.of([Member("a", "ready")])
    assert endpoints.of([]) == []
