"""Who calls, how long they wait, and what they have seen: the context that travels with every call.

A `Call` is the second parameter of every servicer method and, inside it, `current()`. Calls made from there
inherit it: the deadline only shrinks, the revision only grows. Outside of any call `current()` is the service
itself acting on its own (`INTERNAL`).
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from chassis import errors


class Caller(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked. `projects` None means every project; protocol is "unix", "tls", "candid" or "internal".

    `rights` are an RBAC user's permissions by project; None for everybody else, whose `projects` say all.
    """

    protocol: str = "internal"
    username: str = ""
    address: str = ""
    fingerprint: str = ""
    admin: bool = False
    trusted: bool = False
    projects: tuple[str, ...] | None = None
    role: str = ""  # type of the certificate: client, server, metrics
    rights: dict[str, tuple[str, ...]] | None = None

    def may_see(self, project: str) -> bool:
        return self.admin or (self.trusted and (self.projects is None or project in self.projects))

    def may(self, permission: str, project: str) -> bool:
        """Whether something that needs a permission may be done in a project."""
        if self.admin or self.rights is None:
            return self.may_see(project)
        return self.trusted and permission in self.rights.get(project, ())

    @property
    def requestor(self) -> dict[str, str]:
        """LXD's requestor of a lifecycle event: protocol, username and address as LXD shows them."""
        return {"username": self.username, "protocol": self.protocol, "address": self.address}


ITSELF = Caller(admin=True, trusted=True)


@dataclass(slots=True)
class Once:
    """The idempotency key of a call, as chassis.once uses it. `revision`, `done`: its row, once a change of the call has written it."""

    id: str
    digest: str
    operation: str = ""
    waited: bool = False
    location: str = ""
    revision: int = 0
    done: object = None


@dataclass(slots=True)
class Call:
    """Context of one call. `deadline` is on the clock of time.monotonic(), None for no limit."""

    caller: Caller = ITSELF
    deadline: float | None = None
    revision: int = 0
    traceparent: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    validate_only: bool = False
    once: Once | None = None
    served: bool = False  # it came in: what is called from here is another request than the keyed one

    def remaining(self, most: float) -> float:
        """Seconds left, at most `most`."""
        if self.deadline is None:
            return most
        return min(most, max(0.0, self.deadline - time.monotonic()))

    def saw(self, revision: int) -> None:
        self.revision = max(self.revision, revision)

    def act(self) -> None:
        """From here on the call has effects. Raises Validated if it is only to be validated.

        Writing to the log calls this by itself; whoever changes something else before that must do so.
        """
        if self.validate_only:
            raise errors.Validated("The request is valid")

    def to_headers(self, timeout: float) -> dict[str, str]:
        """As transport headers (NATS headers, gRPC metadata); the time left travels, not a clock."""
        found = {
            "nubibus-caller": msgspec.json.encode(self.caller).decode(),
            "nubibus-timeout": f"{timeout:.3f}",
            "nubibus-revision": str(self.revision),
        }
        if self.traceparent:
            found["traceparent"] = self.traceparent
        if self.validate_only:
            found["nubibus-validate-only"] = "1"
        if self.once is not None and not self.served:
            found["nubibus-once"] = f"{self.once.id} {self.once.digest}"
        return found


INTERNAL = Call()
_call: contextvars.ContextVar[Call] = contextvars.ContextVar("call", default=INTERNAL)
_decode_caller = msgspec.json.Decoder(Caller).decode


def from_headers(headers: Mapping[str, str]) -> Call:
    """The call that these transport headers describe; a missing caller is nobody (neither trusted nor admin)."""
    raw = headers.get("nubibus-caller")
    timeout = headers.get("nubibus-timeout")
    id, _, digest = headers.get("nubibus-once", "").partition(" ")
    return Call(
        caller=_decode_caller(raw) if raw else Caller(),
        deadline=time.monotonic() + float(timeout) if timeout else None,
        revision=int(headers.get("nubibus-revision", "0")),
        traceparent=headers.get("traceparent", ""),
        validate_only="nubibus-validate-only" in headers,
        once=Once(id, digest) if id else None,
        served=True,
    )


def current() -> Call:
    """The call being served, or INTERNAL."""
    return _call.get()


def enter(call: Call) -> contextvars.Token[Call]:
    return _call.set(call)


def leave(token: contextvars.Token[Call]) -> None:
    _call.reset(token)


def as_itself(call: Call) -> Call:
    """The same deadline and revision, but the service's own authority:

    for what a caller causes but may not do itself.
    """
    return replace(call, caller=ITSELF)
