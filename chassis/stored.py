"""Messages of the log as nats-server answers them."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from nats.aio.msg import Msg

from chassis.clock import nanoseconds
from chassis.log import Stored


class Refusal(msgspec.Struct):
    """Why nats-server did not do something: `code` as HTTP has it, `err_code` its own."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Acknowledgement(msgspec.Struct):
    """What nats-server says to a message: the sequence that it got, or why it was refused."""

    seq: int = 0
    error: Refusal | None = None


_decode = msgspec.json.Decoder(Acknowledgement).decode


def acknowledgement(msg: Msg) -> Acknowledgement:
    """The answer to a message that was published into the log."""
    return _decode(msg.data)


def stored_from(raw: dict[str, Any]) -> Stored:
    """A message as STREAM.MSG.GET answers it: base64 data and headers, RFC 3339 time."""
    block = base64.b64decode(raw.get("hdrs", "")).decode()
    headers = {}
    for line in block.split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name] = value.strip()
    data = base64.b64decode(raw.get("data", ""))
    return Stored(raw["subject"], data, headers, raw["seq"], nanoseconds(raw["time"]))


def stored_of(msg: Msg) -> Stored:
    """A message as DIRECT.GET answers it: what the log knows of it is among its headers."""
    headers = msg.headers or {}
    time = nanoseconds(headers["Nats-Time-Stamp"])
    return Stored(headers["Nats-Subject"], msg.data, headers, int(headers["Nats-Sequence"]), time)
