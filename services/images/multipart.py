"""A multipart form as it arrives: which part begins, and its bytes. Nothing is held but the line that may be a boundary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from email.message import Message
from typing import NamedTuple

from chassis import errors

HEADERS = 8 * 1024  # bytes that the headers of one part may have


class Begin(NamedTuple):
    """A part begins: its name in the form, and the name of the file."""

    name: str
    filename: str


def boundary_of(content_type: str) -> bytes:
    """Raises BadRequest when there is none."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200:
        raise errors.BadRequest("Invalid multipart image: no boundary")
    return boundary.encode("latin-1", "replace")


class Form:
    """A form that is fed piece by piece. `ended` once the last boundary has been seen."""

    def __init__(self, boundary: bytes) -> None:
        self._mark = b"\r\n--" + boundary
        self._buffer = b"\r\n"
        self._inside = False
        self.ended = False

    def feed(self, piece: bytes) -> Iterator[Begin | bytes]:
        """What is certain now. Raises Internal when headers do not end."""
        if self.ended:
            return  # an epilogue means nothing
        self._buffer += piece
        while (at := self._buffer.find(self._mark)) >= 0:
            if self._inside and at:
                yield self._buffer[:at]
            self._inside = False
            self._buffer = self._buffer[at:]
            begun = self._boundary()
            if begun is None:
                break
            yield begun
        yield from self._rest()

    def _boundary(self) -> Begin | None:
        """The buffer begins with a boundary: the part after it; None at the end, or while its headers are incomplete."""
        after = self._buffer[len(self._mark) :]
        if after.startswith(b"--"):
            self.ended = True
            return None
        head, found, rest = after.partition(b"\r\n\r\n")
        if len(head) > HEADERS:
            raise errors.Internal("Invalid multipart image")
        if not found:
            return None
        self._buffer, self._inside = rest, True
        return _begin(head)

    def _rest(self) -> Iterator[bytes]:
        """Content that cannot be the beginning of a boundary."""
        keep = len(self._mark)
        if self._inside and len(self._buffer) > keep:
            yield self._buffer[:-keep]
        if len(self._buffer) > keep and not self._buffer.startswith(self._mark):
            self._buffer = self._buffer[-keep:]


async def parts(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[Begin | bytes]:
    """Begin and pieces in turn. Raises Internal "EOF" (LXD's word) when the form breaks off."""
    form = Form(boundary)
    async for piece in body:
        for found in form.feed(piece):
            yield found
    if not form.ended:
        raise errors.Internal("EOF")


def _begin(head: bytes) -> Begin:
    message = Message()
    for line in head.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            message[name.decode("latin-1").strip()] = value.decode("utf-8", "replace").strip()
    field = message.get_param("name", "", "content-disposition")
    filename = message.get_param("filename", "", "content-disposition")
    return Begin(field if isinstance(field, str) else "", filename if isinstance(filename, str) else "")
