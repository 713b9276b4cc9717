"""Warnings of a service: told as often as something fails, resolved once, and told later when nobody listened."""

from __future__ import annotations

from typing import Any

import pytest

from chassis import rpc
from chassis.errors import Unavailable
from chassis.troubles import Troubles


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What control heard: the method, the URL, the message. While `away` is in it, control is."""
    heard: list[tuple[str, str, str]] = []

    async def call(_service: str, verb: str, report: Any, **_options: Any) -> None:
        if ("away", "", "") in heard:
            raise Unavailable("control is away")
        heard.append((verb, report.entity_url, report.message))

    monkeypatch.setattr(rpc, "call", call)
    return heard


async def test_a_problem_is_reported_and_its_end_told_once(said: list[tuple[str, str, str]]) -> None:
    troubles = Troubles("Network unavailable", "moderate", "none")
    for problem in ("a", "b", "", "", "c"):
        await troubles.tell("/1.0/networks/n", "default", problem)
    url = "/1.0/networks/n"
    assert said == [("Report", url, "a"), ("Report", url, "b"), ("Resolve", url, ""), ("Report", url, "c")]


async def test_what_was_wrong_before_this_start_is_resolved_too(said: list[tuple[str, str, str]]) -> None:
    await Troubles("Network unavailable", "moderate", "none").tell("/1.0/networks/n", "default", "")
    assert said == [("Resolve", "/1.0/networks/n", "")]


async def test_what_could_not_be_told_is_told_the_next_time(said: list[tuple[str, str, str]]) -> None:
    troubles = Troubles("Network unavailable", "moderate", "none")
    said.append(("away", "", ""))
    await troubles.tell("/1.0/networks/n", "default", "")
    said.clear()
    await troubles.tell("/1.0/networks/n", "default", "")
    assert said == [("Resolve", "/1.0/networks/n", "")]
