"""LXD's envelopes, byte for byte: sync, async, error; and what a response is before it goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from chassis import errors
from gen.nubibus.rest.v1 import rest_pb2

SYNC = b'{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":'
END = b"}\n"
JSON = (b"content-type", b"application/json")
BYTES = (b"content-type", b"application/octet-stream")
NOSNIFF = (b"x-content-type-options", b"nosniff")
Headers = list[tuple[bytes, bytes]]
_json = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Response:
    """`body` is whole, or an iterator for what is not held whole (sent in chunks unless the headers tell its
    length).
    """

    status: int
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""
    revision: int = field(default=0)


def header(value: str) -> bytes:
    """A header's value; what cannot stand in one is left out."""
    return value.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace")


def sync(metadata: bytes, status: int = 200, headers: Headers | None = None) -> Response:
    return Response(status, [JSON, *(headers or ())], b"".join((SYNC, metadata, END)))


def document(found: rest_pb2.Document) -> Response:
    """A synchronous answer. With a location it is 201 and, as in LXD, has no metadata."""
    headers = document_headers(found)
    status = found.status or (201 if found.location else 200)
    if found.raw:
        return Response(status, _with_type(headers), found.json, found.revision)
    response = sync(found.json or (b"null" if found.location else b"{}"), status, headers)
    response.revision = found.revision
    return response


def document_headers(found: rest_pb2.Document) -> Headers:
    headers = [(name.lower().encode(), header(value)) for name, value in found.headers.items()]
    if found.etag:
        headers.append((b"etag", b'"' + header(found.etag) + b'"'))
    if found.location:
        headers.append((b"location", header(found.location)))
    return headers


def _with_type(headers: Headers) -> Headers:
    return headers if any(name == b"content-type" for name, _ in headers) else [BYTES, *headers]


def raw_headers(found: rest_pb2.Document) -> Headers:
    """Headers of a body that goes out as it is."""
    return _with_type(document_headers(found))


def accepted(found: rest_pb2.Accepted) -> Response:
    """202 with the operation and where it is."""
    url = f"/1.0/operations/{found.id}"
    body = b"".join(
        (
            b'{"type":"async","status":"Operation created","status_code":100,"operation":',
            _json(url),
            b',"error_code":0,"error":"","metadata":',
            found.operation or b"null",
            END,
        )
    )
    return Response(202, [JSON, (b"location", url.encode())], body, found.revision)


def answer(found: rest_pb2.Document | rest_pb2.Accepted | rest_pb2.Answer) -> Response:
    """Whatever a method answers with."""
    if isinstance(found, rest_pb2.Answer):
        return accepted(found.accepted) if found.WhichOneof("kind") == "accepted" else document(found.document)
    if isinstance(found, rest_pb2.Accepted):
        return accepted(found)
    return document(found)


def fault(found: errors.Fault) -> Response:
    """The error envelope."""
    fields = {
        "type": "error",
        "status": "",
        "status_code": 0,
        "operation": "",
        "error_code": found.http,
        "error": found.text,
        "metadata": None,
    }
    headers = [JSON, NOSNIFF]
    if isinstance(found, errors.Late):
        headers.append((b"connection", b"close"))  # what may still come is no request
    if isinstance(found, errors.Unavailable):
        headers.append((b"retry-after", str(found.retry_after).encode()))
    return Response(found.http, headers, _json(fields) + b"\n")
