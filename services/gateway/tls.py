"""TLS that asks for a client certificate and takes any: who is trusted is decided by fingerprint, after the
handshake.

Python's ssl can only ask for a certificate that it verifies. Here pyOpenSSL does the TLS, behind the two
memory buffers that asyncio (and uvloop) hand to `SSLContext.wrap_bio`, so that listeners and protocols are
the usual ones. The server's certificate can be replaced while connections live: `reload` makes a new OpenSSL
context, which new connections use.
"""

from __future__ import annotations

import hashlib
import ssl
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

PIECE = 64 * 1024


class Files:
    """Where the server's certificate and key lie, and what they were when last read."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key

    def version(self) -> tuple[int, ...]:
        """Changes when a file is replaced. Raises OSError when one is missing."""
        return tuple(stat.st_mtime_ns ^ stat.st_ino for stat in (self.certificate.stat(), self.key.stat()))

    def context(self) -> SSL.Context:
        """A server context. TLS 1.3 as LXD 5.0.2."""
        made = SSL.Context(SSL.TLS_SERVER_METHOD)
        made.set_min_proto_version(SSL.TLS1_3_VERSION)
        made.use_certificate_chain_file(str(self.certificate))
        made.use_privatekey_file(str(self.key))
        made.check_privatekey()
        made.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        made.set_options(SSL.OP_NO_TICKET)
        made.set_verify(SSL.VERIFY_PEER, lambda *_: True)
        made.set_alpn_select_callback(_choose)
        return made


def _choose(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


class AskingContext(ssl.SSLContext):
    """What `create_server(ssl=...)` takes."""

    files: Files
    inner: SSL.Context
    seen: tuple[int, ...]

    def __new__(cls, files: Files) -> AskingContext:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.files = files
        made.seen = files.version()
        made.inner = files.context()
        return made

    def __init__(self, files: Files) -> None:
        """Nothing to do: SSLContext has no initialiser of its own."""

    def reload(self) -> bool:
        """Read the files again if they changed; what is not a pair leaves the old one in place and raises."""
        version = self.files.version()
        if version == self.seen:
            return False
        self.inner = self.files.context()
        self.seen = version
        return True

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Any:
        return Session(self, incoming, outgoing)


class Session:
    """One TLS connection, with the methods of ssl.SSLObject that asyncio's transports call."""

    def __init__(self, context: AskingContext, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.context = context
        self.incoming = incoming
        self.outgoing = outgoing
        self.connection = SSL.Connection(context.inner, None)
        self.connection.set_accept_state()
        self.unread = False  # whether OpenSSL may hold bytes that it has not looked at

    @cached_property
    def certificate(self) -> bytes:
        """The client's certificate in DER, b"" if it showed none."""
        found: Any = self.connection.get_peer_certificate(as_cryptography=True)  # type: ignore[call-arg]  # stubs lag
        return found.public_bytes(Encoding.DER) if found is not None else b""

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.certificate).hexdigest() if self.certificate else ""

    def do_handshake(self) -> None:
        self._take()
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self.unread = False
            raise ssl.SSLWantReadError from None
        except SSL.Error as error:
            raise ssl.SSLError(f"handshake failed: {error}") from None
        finally:
            self._give()

    def read(self, size: int = PIECE, buffer: Any = None) -> Any:
        self._take()
        try:
            data = self.connection.recv(size)
        except SSL.WantReadError:
            self.unread = False
            raise ssl.SSLWantReadError from None
        except (SSL.ZeroReturnError, SSL.SysCallError):
            data = b""
        except SSL.Error as error:
            raise ssl.SSLError(str(error)) from None
        finally:
            self._give()
        if buffer is None:
            return data
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        try:
            return self.connection.send(bytes(data[:PIECE]))
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.Error as error:
            raise ssl.SSLError(str(error)) from None
        finally:
            self._give()

    def unwrap(self) -> None:
        self._take()
        try:
            done = self.connection.shutdown()
        except SSL.Error:
            done = True
        finally:
            self._give()
        if not done:
            raise ssl.SSLWantReadError

    def pending(self) -> int:
        """How much `read` may still give; uvloop asks before each read, and reads nothing at 0."""
        return self.connection.pending() or int(self.unread)

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self.certificate if binary_form else None

    def cipher(self) -> tuple[str, str, int] | None:
        name = self.connection.get_cipher_name()
        if name is None:
            return None
        return name, self.connection.get_cipher_version() or "", self.connection.get_cipher_bits() or 0

    def compression(self) -> None:
        return None

    def selected_alpn_protocol(self) -> str | None:
        return self.connection.get_alpn_proto_negotiated().decode() or None

    def version(self) -> str:
        return self.connection.get_protocol_version_name()

    def _take(self) -> None:
        """What the peer sent, to OpenSSL."""
        data = self.incoming.read()
        self.unread = self.unread or bool(data)
        while data:
            data = data[self.connection.bio_write(data) :]
        if self.incoming.eof:
            self.connection.bio_shutdown()

    def _give(self) -> None:
        """What OpenSSL has for the peer."""
        while True:
            try:
                self.outgoing.write(self.connection.bio_read(PIECE))
            except SSL.Error:  # WantReadError: there is no more
                return
