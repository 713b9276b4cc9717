"""The messages that liblxc's monitor sends."""

from __future__ import annotations

import struct

import pytest

from services.instances.host.interception.message import CONTINUE, DONE, LEAVE, LEFT, Outcome, parse

ARGUMENTS = (1, 2**64 - 1, 3, 4, 5, 6)


def message(
    notification: int = 80, answer: int = 24, data: int = 64, cookie: bytes = b"p_c1", reserved: int = 0
) -> bytes:
    head = struct.pack("=QiiHHHxxQ", reserved, 100, 200, notification, answer, data, len(cookie))
    body = struct.pack("=QIIiIQ6Q", 7, 300, 0, 133, 0xC000003E, 0x400000, *ARGUMENTS).ljust(notification, b"\0")
    return head + body + bytes(answer) + cookie


def test_a_message_of_this_kernel() -> None:
    call = parse(message())
    assert (call.id, call.caller, call.init, call.number, call.architecture) == (7, 300, 200, 133, 0xC000003E)
    assert (call.arguments, call.container) == (ARGUMENTS, "p_c1")


@pytest.mark.parametrize(("notification", "answer"), [(80, 24), (96, 24), (80, 40)])
def test_the_answer_is_the_message_without_its_cookie(notification: int, answer: int) -> None:
    data = message(notification, answer)
    call = parse(data)
    said = call.answer(Outcome(error=13))
    start = 32 + notification
    assert said[:start] == data[:start]
    assert struct.unpack_from("=QqiI", said, start) == (7, 0, -13, 0)
    assert len(said) == start + answer == len(data) - len("p_c1")
    assert struct.unpack_from("=QqiI", call.answer(LEFT), start) == (7, 0, 0, CONTINUE)
    assert struct.unpack_from("=QqiI", call.answer(Outcome(5)), start) == (7, 5, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"", LEAVE, message()[:31], message()[:111], message()[:-1], message() + b"x", message(answer=8), message(reserved=1),
        message(cookie=b""), message(cookie=b"../x"), message(cookie=b".."),
        message(notification=80)[:32] + message()[32:].replace(b"p_c1", b""),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|size|no container"):
        parse(data)


@pytest.mark.parametrize("outcome", [DONE, LEFT, Outcome(4, 0, 0), Outcome(error=22)])
def test_an_outcome_goes_through_a_pipe(outcome: Outcome) -> None:
    assert Outcome.unpacked(outcome.packed()) == outcome


def test_half_an_outcome_is_none() -> None:
    with pytest.raises(struct.error):
        Outcome.unpacked(DONE.packed()[:-1])
