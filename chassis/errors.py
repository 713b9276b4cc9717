"""The closed family of faults that a client can see.

Each class knows its HTTP and its gRPC code; `fault_from` is the one place where what crossed the wire becomes an exception again.
The text says what was wrong with which value of which key; LXD's wording is kept where its clients look for it.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class Fault(Exception):
    """A failure with a text for the client. `http` is the status code of the error envelope."""

    http: ClassVar[int] = 500
    grpc: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    @property
    def text(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class BadRequest(Fault):
    http = 400
    grpc = grpc.StatusCode.INVALID_ARGUMENT


class Unauthorized(Fault):
    http = 401
    grpc = grpc.StatusCode.UNAUTHENTICATED


class Forbidden(Fault):
    http = 403
    grpc = grpc.StatusCode.PERMISSION_DENIED


class NotFound(Fault):
    http = 404
    grpc = grpc.StatusCode.NOT_FOUND


class Late(Fault):
    """The client did not send in time what it had announced."""

    http = 408
    grpc = grpc.StatusCode.DEADLINE_EXCEEDED


class MethodNotAllowed(Fault):
    http = 405
    grpc = grpc.StatusCode.UNIMPLEMENTED


class Conflict(Fault):
    http = 409
    grpc = grpc.StatusCode.ALREADY_EXISTS


class Gone(Fault):
    """What was asked for was there and is not kept any more (events older than the retention)."""

    http = 410
    grpc = grpc.StatusCode.OUT_OF_RANGE


class PreconditionFailed(Fault):
    """If-Match did not match what is stored."""

    http = 412
    grpc = grpc.StatusCode.FAILED_PRECONDITION


class Unprocessable(Fault):
    """A key of idempotency that was used for another request."""

    http = 422
    grpc = grpc.StatusCode.INVALID_ARGUMENT


class TooLarge(Fault):
    http = 413
    grpc = grpc.StatusCode.OUT_OF_RANGE


class Internal(Fault):
    """Also what LXD answers to most invalid configuration (HTTP 500)."""


class NotImplementedHere(Fault):
    http = 501
    grpc = grpc.StatusCode.UNIMPLEMENTED


class Unavailable(Fault):
    """A part or the log is away. `retry_after` is in seconds; `midway` says that it went away with the call in its hands."""

    http = 503
    grpc = grpc.StatusCode.UNAVAILABLE

    def __init__(self, text: str, retry_after: int = 1, *, midway: bool = False) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.midway = midway


class Cancelled(Fault):
    """The client cancelled the operation (operation status 401)."""

    http = 400
    grpc = grpc.StatusCode.CANCELLED


class Validated(Fault):
    """No failure: the request was only to be validated, and nothing is wrong with it."""

    http = 200
    grpc = grpc.StatusCode.ABORTED  # gRPC cannot abort with OK


FAMILY: dict[str, type[Fault]] = {
    cls.__name__: cls
    for cls in (
        Fault,
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        Late,
        MethodNotAllowed,
        Conflict,
        Gone,
        PreconditionFailed,
        TooLarge,
        Unprocessable,
        Validated,
        Internal,
        NotImplementedHere,
        Unavailable,
        Cancelled,
    )
}


def fault_from(name: str, text: str) -> Fault:
    """The exception for a class name and text that crossed the wire; a name outside the family becomes Internal."""
    return FAMILY.get(name, Internal)(text)
