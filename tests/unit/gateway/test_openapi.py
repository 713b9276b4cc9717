"""The description of the API: whole, consistent, served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import schemathesis

from services.gateway import openapi
from services.gateway.own import add_all
from services.gateway.routes import table_of_contracts
from tests.unit.gateway.world import World


def described() -> dict[str, Any]:
    table = table_of_contracts()
    add_all(table, {})
    return json.loads(json.dumps(openapi.document(table)))  # type: ignore[no-any-return]


def references(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        if isinstance(found.get("$ref"), str):
            yield found["$ref"]
        for value in found.values():
            yield from references(value)
    elif isinstance(found, list):
        for value in found:
            yield from references(value)


def test_every_route_is_described_once() -> None:
    document = described()
    ids = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(ids) == len(set(ids))
    assert set(document["paths"]["/1.0/instances/{name}/state"]) == {"get", "put"}
    assert "/1.0/operations/{id}/wait" in document["paths"]


def test_references_lead_somewhere() -> None:
    document = described()
    for reference in set(references(document)):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_tools_can_read_it() -> None:
    schema = schemathesis.openapi.from_dict(described())
    assert sum(1 for _ in schema.get_all_operations()) > 100


async def test_served(world: World) -> None:
    document = (await world.ask("GET", "/1.0/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    page = await world.ask("GET", "/1.0/openapi")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"/1.0/instances/{name}/state" in page.body
