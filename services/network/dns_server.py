"""The authoritative DNS server of the zones: it answers SOA, AXFR and IXFR (as AXFR) to the peers of a zone, and nothing else.

Over TCP an answer is divided into messages; over UDP there is only SOA. Whoever is no peer learns not even that a zone exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import structlog

from services.network.zone_contents import Line

log = structlog.get_logger(__name__)
IDLE = 10.0  # seconds that a TCP peer may be silent
LINES = 100  # of one message of a transfer
SERVED = (dns.rdatatype.SOA, dns.rdatatype.AXFR, dns.rdatatype.IXFR)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who may transfer: an address, and a TSIG key if one is set (`<zone>_<peer>.`, HMAC-SHA256)."""

    address: str
    key: dns.tsig.Key | None = None


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone that is served; `lines` are asked for when they are needed: SOA first."""

    peers: tuple[Peer, ...]
    lines: Callable[[], Awaitable[list[Line]]]


Zones = Callable[[], Mapping[dns.name.Name, Zone]]


class DnsServer:
    """Listens on one address at a time; `listen` moves it, "" ends it."""

    def __init__(self, zones: Zones) -> None:
        self.zones = zones
        self.address = ""
        self._tcp: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def listen(self, address: str) -> None:
        """`address` is "host:port"; a host of "" is every address. Raises OSError if it cannot be had."""
        await self.close()
        if not address:
            return
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or "::"
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, host, int(port))
        try:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (host, int(port)))
        except OSError:
            await self.close()
            raise
        self.address = address

    async def close(self) -> None:
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()
        for task in self._answering:
            task.cancel()
        self._tcp, self._udp, self.address = None, None, ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str(writer.get_extra_info("peername")[0])
        try:
            while True:
                async with asyncio.timeout(IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    wire = await reader.readexactly(length)
                for answer in await self.answers(wire, peer, stream=True):
                    writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def datagram(self, wire: bytes, peer: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer_datagram(wire, peer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer_datagram(self, wire: bytes, peer: tuple[str, int]) -> None:
        for answer in await self.answers(wire, peer[0], stream=False):
            if self._udp is not None:
                self._udp.sendto(answer, peer)

    async def answers(self, wire: bytes, peer: str, *, stream: bool) -> list[bytes]:
        """The messages that answer a query; none to what is no query."""
        zones = self.zones()
        ring = {who.key.name: who.key for zone in zones.values() for who in zone.peers if who.key}
        try:
            query = dns.message.from_wire(wire, keyring=ring)
        except (dns.exception.DNSException, ValueError):
            return []
        if not isinstance(query, dns.message.QueryMessage) or len(query.question) != 1:
            return []
        question = query.question[0]
        if question.rdtype not in SERVED or (question.rdtype != dns.rdatatype.SOA and not stream):
            return [_failure(query, dns.rcode.NOTIMP)]
        zone = zones.get(question.name)
        if zone is None or not any(_is(who, peer, query) for who in zone.peers):
            return [_failure(query, dns.rcode.NXDOMAIN)]
        try:
            lines = await zone.lines()
        except Exception:
            log.exception("a zone could not be rendered", zone=str(question.name))
            return [_failure(query, dns.rcode.SERVFAIL)]
        if question.rdtype == dns.rdatatype.SOA:
            return [
                _message(query, [line for line in lines if line.data.rdtype in (dns.rdatatype.SOA, dns.rdatatype.NS)])
            ]
        return list(_transfer(query, [*lines, lines[0]]))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self.server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.server.datagram(data, addr)


def _is(peer: Peer, address: str, query: dns.message.Message) -> bool:
    """Whether this query comes from that peer; with a key only a signed one does."""
    try:
        same = _plain(address) == _plain(peer.address) if peer.address else True
    except ValueError:
        return False
    signed = peer.key is None or (query.had_tsig and query.keyname == peer.key.name)
    return same and signed and bool(peer.address or peer.key)


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _failure(query: dns.message.Message, code: dns.rcode.Rcode) -> bytes:
    answer = dns.message.make_response(query)
    answer.set_rcode(code)
    return answer.to_wire()


def _message(query: dns.message.Message, lines: list[Line]) -> bytes:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.AA
    answer.answer = [dns.rrset.from_rdata(line.name, line.ttl, line.data) for line in lines]
    return answer.to_wire(max_size=65535)


def _transfer(query: dns.message.Message, lines: list[Line]) -> Iterator[bytes]:
    """The zone in as many messages as it takes; signatures continue from one to the next."""
    context = None
    for start in range(0, len(lines), LINES):
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        answer.answer = [dns.rrset.from_rdata(line.name, line.ttl, line.data) for line in lines[start : start + LINES]]
        yield answer.to_wire(max_size=65535, multi=True, tsig_ctx=context)
        context = answer.tsig_ctx
