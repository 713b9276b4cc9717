"""The OpenAPI 3.1 document of the REST API, derived from the route table, and a page that shows it.

Paths, parameters, bodies and answers come from the REST option of the methods; the shapes of LXD's objects from schemas.json
(tools/schemas). Served at /1.0/openapi.json and /1.0/openapi; `tools/openapi` writes docs/openapi.json.
"""

from __future__ import annotations

import html
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from services.gateway import encode
from services.gateway.encode import Response
from services.gateway.requests import Request
from services.gateway.routes import FLAG, NUMBER, SPECIAL, Route, Table

SHAPES = Path(__file__).with_name("schemas.json")
OWN = {
    # path -> summary, answer; the endpoints that have no contract
    "/": ("List the API's versions", "[]string"),
    "/1.0/operations": ("List operations by status", ""),
    "/1.0/operations/{id}": ("Show or cancel an operation", "Operation"),
    "/1.0/operations/{id}/wait": ("Wait for an operation", "Operation"),
    "/1.0/operations/{id}/websocket": ("Connect to a websocket of an operation", ""),
    "/1.0/events": ("Listen to events (websocket)", ""),
}
FAULTS = ("400", "403", "404", "412", "500", "501", "503")
TYPES = {NUMBER: {"type": "integer"}, FLAG: {"type": "boolean"}}


def envelope(metadata: dict[str, Any]) -> dict[str, Any]:
    """LXD's synchronous envelope around a schema."""
    return {
        "type": "object",
        "required": ["type", "status", "status_code", "metadata"],
        "properties": {
            "type": {"const": "sync"},
            "status": {"type": "string"},
            "status_code": {"type": "integer"},
            "operation": {"type": "string"},
            "error_code": {"type": "integer"},
            "error": {"type": "string"},
            "metadata": metadata,
        },
    }


ASYNC = {
    "type": "object",
    "required": ["type", "status", "status_code", "operation", "metadata"],
    "properties": {
        "type": {"const": "async"},
        "status": {"const": "Operation created"},
        "status_code": {"const": 100},
        "operation": {"type": "string", "pattern": "^/1\\.0/operations/"},
        "metadata": {"$ref": "#/components/schemas/Operation"},
    },
}
ERROR = {
    "type": "object",
    "required": ["type", "error", "error_code", "metadata"],
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "string"},
        "error_code": {"type": "integer"},
        "metadata": {"type": "null"},
    },
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def answer_schema(name: str) -> dict[str, Any]:
    """Schema of metadata for an answer's name: "Instance", "[]Instance" (URLs or objects), "[]string", "" (anything)."""
    if not name:
        return {}
    text: dict[str, Any] = {"type": "string"}
    if not name.startswith("[]"):
        return ref(name)
    item = name.removeprefix("[]")
    if item == "string":
        return {"type": ["array", "null"], "items": text}
    return {"type": ["array", "null"], "items": {"anyOf": [text, ref(item)]}}


def operation_of(route: Route) -> dict[str, Any]:
    """The Operation Object of a route."""
    option = route.option
    summary, answer = OWN.get(route.path, ("", ""))
    if option is not None:
        summary, answer = option.summary, option.answer
    described: dict[str, Any] = {
        "summary": summary,
        "operationId": operation_id(route),
        "tags": [route.method.part if route.method else "gateway"],
        "parameters": parameters_of(route),
        "responses": responses_of(route, answer),
    }
    if option is not None:
        if option.schema:
            schema = ref(option.schema)
            described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        elif route.raw_body:
            described["requestBody"] = {"content": {"application/octet-stream": {}}}
        if option.extension:
            described["x-extension"] = option.extension
        if option.lifecycle:
            described["x-lifecycle"] = list(option.lifecycle)
        described["x-permission"] = option.permission or "trusted"
    return described


def operation_id(route: Route) -> str:
    words = [word.strip("{}") for word in route.path.split("/") if word not in ("", "1.0")]
    where = words or (["server"] if "1.0" in route.path else ["root"])
    return "_".join([route.verb.lower(), *where]).replace("-", "_")


def parameters_of(route: Route) -> list[dict[str, Any]]:
    names = [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]
    text = {"type": "string"}
    found: list[dict[str, Any]] = [{"name": name, "in": "path", "required": True, "schema": text} for name in names]
    for field, kind in sorted(route.fields.items()):
        if field in SPECIAL or field in names or kind not in ("text", NUMBER, FLAG):
            continue
        name = field.replace("_", "-") if field in ("all_projects", "instance_type") else field
        found.append({"name": name, "in": "query", "schema": TYPES.get(kind, {"type": "string"})})
    if "if_match" in route.fields:
        found.append({"name": "If-Match", "in": "header", "schema": {"type": "string"}})
    return found


def responses_of(route: Route, answer: str) -> dict[str, Any]:
    error = {"$ref": "#/components/responses/Error"}
    found: dict[str, Any] = dict.fromkeys(FAULTS, error)
    body: dict[str, Any] = {"schema": envelope(answer_schema(answer))}
    binary = route.method is not None and route.method.server_streams and not answer
    content = (
        {"application/octet-stream": {}, "application/json": {}, "text/plain": {}}
        if binary
        else {"application/json": body}
    )
    found["200"] = {"description": "Done", "content": content}
    kind = route.method.answer.DESCRIPTOR.name if route.method else ""
    if route.verb == "POST":
        found["201"] = {"description": "Created", "content": {"application/json": {"schema": envelope({})}}}
    if kind in ("Answer", "Accepted"):
        schema = {"$ref": "#/components/schemas/_Async"}
        found["202"] = {"description": "Accepted as an operation", "content": {"application/json": {"schema": schema}}}
    if "413" not in found and route.verb in ("POST", "PUT", "PATCH"):
        found["413"] = error
    return dict(sorted(found.items()))


def document(table: Table) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in table.all:
        if not route.path.startswith("/1.0/openapi"):
            paths[route.path][route.verb.lower()] = operation_of(route)
    schemas = json.loads(SHAPES.read_text())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nubibus",
            "version": "1.0",
            "summary": "System containers and virtual machines behind LXD 5.0's REST API",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {**schemas, "_Error": ERROR, "_Async": ASYNC},
            "responses": {
                "Error": {"description": "An error", "content": {"application/json": {"schema": ref("_Error")}}}
            },
        },
    }


class Pages:
    """The endpoints of the document; made once, when first asked for."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.json = cache(lambda: json.dumps(document(table)).encode())
        self.html = cache(lambda: page(document(table)).encode())

    async def serve_json(self, _request: Request, _parameters: tuple[str, ...]) -> Response:
        return Response(200, [encode.JSON], self.json())

    async def serve_page(self, _request: Request, _parameters: tuple[str, ...]) -> Response:
        return Response(200, [(b"content-type", b"text/html; charset=utf-8")], self.html())


def page(described: dict[str, Any]) -> str:
    """A page without scripts: every path with its verbs, parameters, shapes."""
    rows = []
    for path, verbs in described["paths"].items():
        for verb, operation in verbs.items():
            names = ", ".join(each["name"] for each in operation["parameters"] if each["in"] == "query")
            shape = ""
            for content in operation.get("requestBody", {}).get("content", {}).values():
                shape = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            cells = (verb.upper(), path, operation["summary"], names, shape, operation.get("x-permission", ""))
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    shapes = []
    for name, schema in described["components"]["schemas"].items():
        shown = html.escape(json.dumps(schema, indent=1))
        shapes.append(f"<details><summary>{html.escape(name)}</summary><pre>{shown}</pre></details>")
    head = "<tr><th>Verb<th>Path<th>What it does<th>Query<th>Body<th>Permission</tr>"
    return (
        '<!doctype html><meta charset="utf-8"><title>Nubibus REST API</title>'
        "<style>body{font:15px sans-serif;margin:2em}td,th{text-align:left;padding:.2em 1em .2em 0}</style>"
        '<h1>Nubibus REST API</h1><p><a href="/1.0/openapi.json">openapi.json</a></p>'
        f"<table>{head}{''.join(rows)}</table><h2>Shapes</h2>{''.join(shapes)}"
    )
