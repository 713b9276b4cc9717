"""Streaming calls over gRPC: a unix socket on one machine, mutual TLS between machines.

A stream of requests is ended by a mark, because to a gRPC server a client that goes away in the middle can
look like one that has finished: whoever reads the requests gets Cancelled instead. Faults travel as the
status code (for anyone's gRPC tools), the text as details, and the class name in the trailing metadata.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import structlog
from google.protobuf.message import Message

from chassis import calls, errors
from chassis.calls import Call
from chassis.contracts import Method
from chassis.discovery import Discovery, Target
from chassis.metrics import Counters
from chassis.rpc_nats import Answered, Reached

MESSAGE = 16 * 1024 * 1024  # bytes, the largest message of a stream
# A part says why it refuses; these without a reason come of its connection, which ended with it.
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE),
    ("grpc.max_receive_message_length", MESSAGE),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10000),
    ("grpc.http2.max_ping_strikes", 0),
]
CLIENT_OPTIONS = [
    *OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long an attempt to connect may take. One that is refused ends at once.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.use_local_subchannel_pool", 1),
]
EARLY = "nubibus-fault-bin"  # initial metadata: the fault, ahead of the status that a writing client may miss
WRITING_FAILED = "Internal error from Core"  # gRPC's words for a write to a stream that the server has ended
PATIENCE = 5.0  # seconds for what a server sent ahead
MARKED = "nubibus-marked"  # metadata: the stream of requests ends with the mark
END = b"\xf8\xff\xff\xff\x0f\x01"  # a message of nothing but field 536870911, which no contract has
log = structlog.get_logger()


class Identity:
    """What members show each other. NUBIBUS_TLS names a directory with ca.crt, tls.crt and tls.key; else it
    is the certificate that the cluster shares (D/cluster.crt, D/server.crt): each shows it and trusts only
    it. Files are read at each handshake of a server."""

    def __init__(self, directory: Path) -> None:
        given = os.environ.get("NUBIBUS_TLS")
        if given:
            self.certificate, self.authority = Path(given, "tls.crt"), Path(given, "ca.crt")
        else:
            cluster = directory / "cluster.crt"
            self.certificate = self.authority = cluster if cluster.exists() else directory / "server.crt"
        self.key = self.certificate.with_suffix(".key")

    def server(self) -> Any:
        def read() -> Any:
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
            return grpc.ssl_server_certificate_configuration([pair], self.authority.read_bytes())

        return grpc.dynamic_ssl_server_credentials(read(), read, require_client_authentication=True)

    def client(self) -> Any:
        return grpc.ssl_channel_credentials(
            root_certificates=self.authority.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.certificate.read_bytes(),
        )

    def version(self) -> tuple[int, ...]:
        """Changes when a file does."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key, self.authority))

    def name(self) -> str:
        """A name that the certificate is valid for:

        members are recognised by the certificate, not by their address.
        """
        from cryptography import x509

        certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
        return dns[0] if dns else str(names.get_values_for_type(x509.IPAddress)[0])


def _kind(method: Method) -> str:
    """gRPC's word for which sides stream: "unary_stream"."""
    return "_".join("stream" if streams else "unary" for streams in (method.client_streams, method.server_streams))


async def _send(requests: AsyncIterator[Message], running: Any) -> None:
    """The requests and the mark. What they raise ends the call, whose reader raises it again.

    Done here and not by gRPC's own iteration, which formats a traceback whenever a call is cancelled (as each websocket's is at its end).
    """
    try:
        async for request in requests:
            await running.write(request)
        await running.write(END)
        await running.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # the call has ended; its reader knows why
    except BaseException:
        running.cancel()
        raise


def _serialize(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def _reader(method: Method) -> Callable[[bytes], Any]:
    """Deserializer of requests, which knows the mark."""
    if not method.client_streams:
        return method.request.FromString
    return lambda data: _ENDED if data == END else method.request.FromString(data)


_ENDED = object()


async def _until_mark(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    """The requests. Raises Cancelled when they end without the mark of a client that promised one."""
    async for request in requests:
        if request is _ENDED:
            return
        yield request
    if any(key == MARKED for key, _ in context.invocation_metadata() or ()):
        raise errors.Cancelled("The client went away")


class GrpcClient:
    """Opens streams; one channel an address, made at the first call."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self.channels: dict[tuple[Target, tuple[int, ...]], grpc.aio.Channel] = {}

    async def close(self) -> None:
        for channel in self.channels.values():
            await channel.close()

    async def stream(
        self, part: str, method: Method, request: Any, call: Call, timeout: float | None, member: str | None
    ) -> AsyncIterator[Message]:
        """The answers, one by one.

        `request` is a message, or an async iterator of messages for a client-streaming method.
        """
        target = await self.discovery.find(part, member)
        invoke = self._multicallable(self._channel(target), method)
        headers = call.to_headers(timeout if timeout is not None else 0.0)
        if timeout is None:
            del headers["nubibus-timeout"]
        if method.client_streams:
            headers[MARKED] = "1"
        options = {"timeout": timeout, "metadata": tuple(headers.items()), "wait_for_ready": False}
        running = invoke(**options) if method.client_streams else invoke(request, **options)
        sending = asyncio.ensure_future(_send(request, running)) if method.client_streams else None
        try:
            if method.server_streams:
                async for message in running:
                    yield message
            else:
                yield await running
        except grpc.aio.AioRpcError as error:
            self.discovery.forget(part, member)
            raise await self._fault(error, running, part, method) from None
        except asyncio.CancelledError:
            if sending is not None and sending.done() and not sending.cancelled() and (broken := sending.exception()):
                raise broken from None
            raise
        finally:
            running.cancel()
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _channel(self, target: Target) -> grpc.aio.Channel:
        identity = Identity(self.discovery.directory) if target.secure else None
        key = (target, identity.version() if identity else ())
        channel = self.channels.get(key)
        if channel is None:
            if identity:
                options = [*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", identity.name())]
                channel = grpc.aio.secure_channel(target.address, identity.client(), options=options)
            else:
                channel = grpc.aio.insecure_channel(target.address, options=CLIENT_OPTIONS)
            self.channels[key] = channel
        return channel

    def _multicallable(self, channel: grpc.aio.Channel, method: Method) -> Callable[..., Any]:
        opener = getattr(channel, _kind(method))
        made: Callable[..., Any] = opener(
            f"/{method.service}/{method.name}",
            request_serializer=_serialize if method.client_streams else method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        return made

    async def _fault(self, error: grpc.aio.AioRpcError, running: Any, part: str, method: Method) -> errors.Fault:
        text = error.details() or ""
        for key, value in error.trailing_metadata() or ():
            if key == "nubibus-fault":
                return errors.fault_from(str(value), text)
        away = errors.Unavailable(f"The {part} service is not available")
        if error.code() in GONE:
            return away
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.Unavailable(f"{part} did not finish {method.noun}.{method.name} in time")
        if text == WRITING_FAILED:
            return await _early_fault(running) or away
        return errors.Internal(f"{method.noun}.{method.name}: {error.code().name}: {text}")


async def _early_fault(running: Any) -> errors.Fault | None:
    """What the server sent ahead of its fault.

    When the client is still writing as the server ends, gRPC's client makes the failed write the status and loses the real one.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            metadata = await running.initial_metadata()
    except (TimeoutError, grpc.aio.AioRpcError):
        return None
    for key, value in metadata or ():
        if key == EARLY:
            name, text = msgspec.json.decode(value, type=tuple[str, str])
            return errors.fault_from(name, text)
    return None


class GrpcServer:
    """Serves the streaming methods of one part on its socket, and on `listen` ("host:port") with mutual TLS
    when given.
    """

    def __init__(
        self,
        part: str,
        directory: Path,
        reached: Reached,
        counters: Counters,
        answered: Answered,
        listen: str = "",
    ) -> None:
        self.part = part
        self.directory = directory
        self.reached = reached
        self.counters = counters
        self.answered = answered
        self.listen = listen
        self.address = ""
        self.handlers: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
        self.server: grpc.aio.Server | None = None

    def register(self, method: Method, handler: Callable[..., Any]) -> None:
        serve = self._stream_answers(method, handler) if method.server_streams else self._one_answer(method, handler)
        make = getattr(grpc, f"{_kind(method)}_rpc_method_handler")
        self.handlers.setdefault(method.service, {})[method.name] = make(
            serve,
            request_deserializer=_reader(method),
            response_serializer=method.answer.SerializeToString,
        )

    async def open(self) -> None:
        self.server = grpc.aio.server(options=OPTIONS)
        for service, methods in self.handlers.items():
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        path = self.directory / "run" / f"{self.part}.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        self.server.add_insecure_port(f"unix:{path}")
        if self.listen:
            port = self.server.add_secure_port(self.listen, Identity(self.directory).server())
            self.address = f"{self.listen.rpartition(':')[0]}:{port}"
        await self.server.start()
        path.chmod(0o660)  # the gateway has no root; D/run gives its group

    async def drain(self, seconds: float) -> None:
        server, self.server = self.server, None
        if server:
            await server.stop(seconds)

    def _stream_answers(self, method: Method, handler: Callable[..., AsyncIterator[Message]]) -> Callable[..., Any]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Message]:
            try:
                with self.counters.measure(f"{method.noun}.{method.name}"):
                    call = await self._enter(context)
                    if method.client_streams:
                        request = _until_mark(request, context)
                    async for answer in handler(request, call):
                        yield answer
            except Exception as error:
                await _abort(context, error, method)

        return serve

    def _one_answer(self, method: Method, handler: Callable[..., Awaitable[Message]]) -> Callable[..., Any]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
            try:
                with self.counters.measure(f"{method.noun}.{method.name}"):
                    call = await self._enter(context)
                    if method.client_streams:
                        request = _until_mark(request, context)
                    answer = await handler(request, call)
                    if call.once is not None:
                        await self.answered(call, answer)
                    return answer
            except Exception as error:
                await _abort(context, error, method)
                raise

        return serve

    async def _enter(self, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        call = calls.from_headers(metadata)
        calls.enter(call)  # gRPC gives every call a context of its own, so nothing has to be restored
        if call.revision:
            async with asyncio.timeout(call.remaining(most=10.0)):
                await self.reached(call.revision)
        return call


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception, method: Method) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, TimeoutError):
        error = errors.Unavailable(f"{method.noun}.{method.name} did not finish in time")
    if not isinstance(error, errors.Fault):
        log.error("a streaming method failed", method=f"{method.noun}.{method.name}", exc_info=error)
        error = errors.Internal(f"{type(error).__name__}: {error}")
    if method.client_streams:
        with suppress(Exception):  # answers have been sent before
            told = msgspec.json.encode((type(error).__name__, error.text))
            await context.send_initial_metadata(((EARLY, told),))
    await context.abort(error.grpc, error.text, (("nubibus-fault", type(error).__name__),))
