"""Another LXD server as a source of images: its API over HTTPS, as far as pulling an image needs it.

The server is known by the certificate that the caller gives; without one it must have a certificate of a known authority.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import h11
import msgspec

from chassis import errors

PATIENCE = 60.0  # seconds without a byte
CONNECTING = 10.0
DOCUMENT = 4 * 1024 * 1024  # bytes of a JSON answer
PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Remote:
    """`certificate` in PEM form, "" = verify by the authorities of the system."""

    server: str
    certificate: str = ""
    project: str = ""
    secret: str = ""

    def query(self) -> str:
        given = {"secret": self.secret, "project": self.project}
        return urlencode({key: text for key, text in given.items() if text})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes]


def _context(remote: Remote) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if remote.certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # pinned: compared after the handshake, before anything is sent
    return context


def _check_pin(remote: Remote, writer: asyncio.StreamWriter) -> None:
    if not remote.certificate:
        return
    try:
        wanted = ssl.PEM_cert_to_DER_cert(remote.certificate)
    except ValueError:
        raise errors.BadRequest("Invalid certificate of the source server") from None
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if not found or not hmac.compare_digest(found, wanted):
        raise errors.Internal(f"The certificate of {remote.server} is not the one that was given")


@asynccontextmanager
async def request(remote: Remote, path: str) -> AsyncIterator[Answer]:
    """GET a path of the server. Raises Internal when it cannot be reached."""
    address = urlsplit(remote.server)
    if address.scheme != "https" or not address.hostname:
        raise errors.BadRequest(f"Invalid server {remote.server!r}: must be https://HOST[:PORT]")
    try:
        async with asyncio.timeout(CONNECTING):
            reader, writer = await asyncio.open_connection(address.hostname, address.port or 443, ssl=_context(remote))
    except (OSError, TimeoutError) as error:
        raise errors.Internal(f'Failed to connect to LXD server "{remote.server}": {error or "timed out"}') from None
    try:
        _check_pin(remote, writer)
        yield await _exchange(reader, writer, address.netloc, path)
    except (OSError, h11.ProtocolError, TimeoutError) as error:
        raise errors.Internal(f'The connection to "{remote.server}" broke off: {error or "timed out"}') from None
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str) -> Answer:
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", host), ("user-agent", "nubibus"), ("connection", "close")]
    for event in (h11.Request(method="GET", target=path, headers=headers), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    while True:
        found = await _next(connection, reader)
        if isinstance(found, h11.Response):
            named = {name.decode().lower(): text.decode("latin-1") for name, text in found.headers}
            return Answer(found.status_code, named, _body(connection, reader))


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        async with asyncio.timeout(PATIENCE):
            connection.receive_data(await reader.read(PIECE))
    return event


async def _body(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while isinstance(event := await _next(connection, reader), h11.Data):
        yield bytes(event.data)


async def fetch_document(remote: Remote, path: str) -> dict[str, Any]:
    """The metadata of a synchronous answer. Raises what the server refuses with."""
    query = remote.query()
    async with request(remote, f"{path}?{query}" if query else path) as answer:
        data = bytearray()
        async for piece in answer.body:
            data += piece
            if len(data) > DOCUMENT:
                raise errors.Internal(f'The answer of "{remote.server}" is too large')
    try:
        found = msgspec.json.decode(bytes(data))
        if answer.status == 200 and isinstance(found["metadata"], dict):
            return dict(found["metadata"])
        text = str(found.get("error") or f"status {answer.status}")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        text = f'"{remote.server}" does not answer as an LXD server does'
    raise errors.NotFound(text) if answer.status == 404 else errors.Internal(text)


async def find(remote: Remote, fingerprint: str, alias: str) -> dict[str, Any]:
    """The image as the server shows it."""
    if alias and not fingerprint:
        target = await fetch_document(remote, f"/1.0/images/aliases/{quote(alias, safe='')}")
        fingerprint = str(target.get("target", ""))
    return await fetch_document(remote, f"/1.0/images/{quote(fingerprint, safe='')}")


@asynccontextmanager
async def download(remote: Remote, fingerprint: str) -> AsyncIterator[Answer]:
    """The image's files, in either shape."""
    query = remote.query()
    path = f"/1.0/images/{quote(fingerprint, safe='')}/export"
    async with request(remote, f"{path}?{query}" if query else path) as answer:
        if answer.status != 200:
            raise errors.Internal(f'"{remote.server}" refuses to send the image: status {answer.status}')
        yield answer
