"""Types of values that only instances' keys have, with LXD's sentences about wrong ones."""

from __future__ import annotations

import re
import uuid

from chassis import units
from chassis.key_types import Int, Type, quote

MOST_CPUS = 65536  # more than any kernel has; a set is written out
CPU_CHARACTERS = re.compile(r"[-,0-9]*")


def cpu_set(text: str) -> set[int] | int:
    """A number of CPUs, or the set that "0-3,7" names."""
    if not CPU_CHARACTERS.fullmatch(text):
        raise ValueError("Invalid CPU limit syntax")
    if text[0] in "-," or text[-1] in "-,":
        raise ValueError("Invalid CPU limit")
    if text.isdigit():
        return int(text)
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError("Invalid CPU limit syntax")
        if dash and not int(first) <= int(last) < MOST_CPUS:
            raise ValueError("Invalid CPU limit")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _allowance(text: str) -> str:
    """ "50%" (a soft share) or "25ms/100ms" (a hard quota)."""
    number = r"[+-]?[0-9]+"
    if text.endswith("%"):
        if not re.fullmatch(number, text[:-1]):
            raise ValueError(f"Invalid allowance: {text}")
        return text
    if not re.fullmatch(rf"{number}(ms)?/{number}(ms)?", text):
        raise ValueError(f"Invalid allowance: {text}")
    return text


def _memory(text: str) -> str:
    if text.endswith("%"):
        if units.parse_percent(text) is None:
            raise ValueError(f"Invalid value: {text}")
        return text
    units.parse_bytes(text)
    return text


def _priority(text: str) -> int:
    number = Int().parse(text)
    if not 0 <= number <= 10:
        raise ValueError(f"Invalid value for a limit {quote(text)}. Must be between 0 and 10")
    return number


def _uuid(text: str) -> str:
    try:
        uuid.UUID(text)
    except ValueError:
        raise ValueError("Invalid UUID") from None
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\0" in text:
        raise ValueError("Line breaks are not allowed")
    return text


def _raw_lxc(text: str) -> str:
    """Lines `key = value`; keys that LXD keeps to itself are refused as it does."""
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip().lower()
        if not line:
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f"Invalid raw.lxc line: {line}")
        _raw_lxc_key(key.strip(), value.strip())
    return text


def _raw_lxc_key(key: str, value: str) -> None:
    if key in ("lxc.log.file", "lxc.logfile", "lxc.log.syslog", "lxc.syslog", "lxc.ephemeral"):
        raise ValueError(f"Setting {key} is not allowed")
    if key.startswith("lxc.prlimit."):
        raise ValueError(f'Process limits should be set via "limits.kernel.[limit name]" and not directly via "{key}"')
    if key.startswith("lxc.net.") and key.split(".")[-1] not in ("ipv4", "ipv6", "address", "gateway"):
        raise ValueError("Only interface-specific ipv4/ipv6 lxc.net.* keys are allowed")


def _resource_limit(text: str) -> str:
    """ "100", "100:200" (soft and hard), "unlimited"."""
    number = "(?:[0-9]+|unlimited)"
    if not re.fullmatch(f"{number}(?::{number})?", text):
        raise ValueError(f"Invalid value for a kernel limit {quote(text)}")
    return text


CpuLimit: Type[set[int] | int] = Type("number or set of CPUs", cpu_set, 0)
Allowance = Type("percentage or time", _allowance, "")
Memory = Type("size or percentage", _memory, "")
Priority = Type("priority 0-10", _priority, 0)
Uuid = Type("UUID", _uuid, "")
OneLine = Type("string", _one_line, "")
ResourceLimit = Type("resource limit", _resource_limit, "")
RawLxc = Type("lines of liblxc configuration", _raw_lxc, "")
