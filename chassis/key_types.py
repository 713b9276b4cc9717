"""Types of configuration values: what a text means, and LXD's sentence when it means nothing.

A type turns the stored text into a value (`parse`, raising ValueError with LXD's reason), names itself for
the documentation, and has a `zero` for a key that is not set and has no default.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cronsim import CronSim, CronSimError

from chassis import units

T = TypeVar("T")
TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off", ""})
CRON_ALIASES = frozenset(
    {"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@annually", "@yearly", "@startup", "@never"}
)


def quote(text: str) -> str:
    """As Go's %q for the texts that occur here."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


@dataclass(frozen=True)
class Type(Generic[T]):
    """A named type. `check` turns a text into a value or raises ValueError."""

    name: str
    check: Callable[[str], T]
    zero: T
    waits: bool = False  # what a value of it would do is not built yet

    def parse(self, text: str) -> T:
        return self.check(text)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"Invalid value for an integer {quote(text)}")
    return int(text)


def Int(least: int | None = None, most: int | None = None) -> Type[int]:
    """A whole number, within [least, most] if given."""

    def check(text: str) -> int:
        number = _integer(text)
        if (least is not None and number < least) or (most is not None and number > most):
            low, high = least if least is not None else -(2**63), most if most is not None else 2**63 - 1
            raise ValueError(f"Value isn't within valid range. Must be between {low} and {high}")
        return number

    return Type("integer", check, 0)


def is_true(text: str) -> bool:
    """LXD's IsTrue, for texts that were not validated."""
    return text.lower() in TRUE


def _boolean(text: str) -> bool:
    if text.lower() not in TRUE | FALSE:
        raise ValueError(f"Invalid value for a boolean {quote(text)}")
    return text.lower() in TRUE


def Enum(*names: str) -> Type[str]:
    """One of the names."""

    def check(text: str) -> str:
        if text not in names:
            raise ValueError(f"Invalid value {quote(text)} (not one of [{' '.join(names)}])")
        return text

    return Type("string", check, "")


def List(item: Type[T], separator: str = ",") -> Type[tuple[T, ...]]:
    """Items divided by the separator, white space around them ignored."""

    def check(text: str) -> tuple[T, ...]:
        found = []
        for word in text.split(separator):
            try:
                found.append(item.parse(word.strip()))
            except ValueError as reason:
                raise ValueError(f"Item {quote(word)}: {reason}") from None
        return tuple(found)

    return Type(f"list of {item.name}", check, ())


def Or(*types: Type[Any]) -> Type[Any]:
    """The first type that takes the text; the reason of the last if none does."""

    def check(text: str) -> Any:
        reason = ValueError("no type")
        for type_ in types:
            try:
                return type_.parse(text)
            except ValueError as error:
                reason = error
        raise reason

    return Type(" or ".join(dict.fromkeys(type_.name for type_ in types)), check, types[0].zero)


def NotYet(type_: Type[T], *allowed: str) -> Type[T]:
    """A key whose effect does not exist yet: a wrong value is told as ever, a right one is refused, but for those that change nothing."""

    def check(text: str) -> T:
        value = type_.parse(text)
        if text.lower() not in allowed:
            raise ValueError("Not supported by this server yet")
        return value

    return Type(type_.name, check, type_.zero, waits=True)


def Pattern(pattern: str, reason: str, name: str = "string") -> Type[str]:
    """A text that matches the whole pattern; `reason` may contain {value} (quoted)."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(reason.format(value=quote(text)))
        return text

    return Type(name, check, "")


def _percent_or_size(text: str) -> str:
    if units.parse_percent(text) is None:
        units.parse_bytes(text)
    return text


def _mac(text: str) -> str:
    if not re.fullmatch(r"(?i)[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise ValueError("Invalid MAC address, must be 6 bytes of hex separated by colons")
    return text.lower()


def _address(family: str, cls: Callable[[str], Any]) -> Callable[[str], Any]:
    def check(text: str) -> Any:
        try:
            return cls(text)
        except ValueError:
            raise ValueError(f"Not an {family} address {quote(text)}") from None

    return check


def _network(family: str, version: int | None) -> Callable[[str], Any]:
    """The subnet itself: host bits are refused."""

    def check(text: str) -> Any:
        try:
            found = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"invalid CIDR address: {text}") from None
        if "/" not in text or (version and found.version != version):
            raise ValueError(
                f"Not an {family} network {quote(text)}" if "/" in text else f"invalid CIDR address: {text}"
            )
        if str(found.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
            raise ValueError(f"Not an {family} network address {quote(text)}")
        return found

    return check


def _interface(family: str, version: int | None) -> Callable[[str], Any]:
    """An address with the length of its subnet, "10.0.0.1/24"."""

    def check(text: str) -> Any:
        try:
            found = ipaddress.ip_interface(text)
        except ValueError:
            raise ValueError(f"invalid CIDR address: {text}") from None
        if "/" not in text or (version and found.version != version):
            raise ValueError(f"Not an {family} CIDR address: {text}")
        return found

    return check


def _range(version: int) -> Callable[[str], tuple[Any, Any]]:
    def check(text: str) -> tuple[Any, Any]:
        start, dash, end = text.partition("-")
        if not dash:
            raise ValueError("IP range must contain start and end IP addresses")
        found: list[Any] = []
        for which, part in (("Start", start), ("End", end)):
            try:
                address = ipaddress.ip_address(part.strip())
            except ValueError:
                raise ValueError(f"{which} not a valid IP address {quote(part)}") from None
            if address.version != version:
                raise ValueError(f"{which} IP address {quote(part)} is not an IPv{version} address")
            found.append(address)
        if found[0] > found[1]:
            raise ValueError("Start IP address must be before or equal to end IP address")
        return found[0], found[1]

    return check


def _interface_name(text: str) -> str:
    if len(text) < 2:
        raise ValueError("Network interface is too short (minimum 2 characters)")
    if len(text) > 15:
        raise ValueError("Network interface is too long (maximum 15 characters)")
    if not re.fullmatch(r"[-_a-zA-Z0-9.]+", text):
        raise ValueError("Network interface contains invalid characters")
    return text


def _hostname(text: str) -> str:
    if not 1 <= len(text) <= 63:
        raise ValueError("Name must be 1-63 characters long")
    if text.startswith("-"):
        raise ValueError('Name must not start with "-" character')
    if text.isdigit():
        raise ValueError("Name cannot be a number")
    if not re.fullmatch(r"[-a-zA-Z0-9]+", text):
        raise ValueError("Name can only contain alphanumeric and hyphen characters")
    if text.endswith("-"):
        raise ValueError('Name must not end with "-" character')
    return text


def _cron(text: str) -> str:
    reason = "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>"
    for alias in text.split(","):
        if alias.strip() in CRON_ALIASES:
            return text
    if len(text.split()) != 5:
        raise ValueError(reason)
    from datetime import UTC, datetime

    try:
        CronSim(text, datetime.now(UTC))
    except CronSimError as error:
        raise ValueError(f"Error parsing cron expr: {error}") from None
    return text


def _uint32(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text, re.ASCII):
        raise ValueError(
            f"Invalid value for uint32 {quote(text)}: strconv.ParseUint: parsing {quote(text)}: invalid syntax"
        )
    if len(text) > 20 or int(text) >= 2**32:
        raise ValueError(
            f"Invalid value for uint32 {quote(text)}: strconv.ParseUint: parsing {quote(text)}: value out of range"
        )
    return int(text)


def _expiry(text: str) -> str:
    from datetime import UTC, datetime

    units.parse_expiry(datetime.now(UTC), text)
    return text


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("Must be absolute file path")
    return text


def _anything(text: str) -> str:
    return text


def _required(text: str) -> str:
    if not text:
        raise ValueError("Required value")
    return text


Str = Type("string", _anything, "")
NotEmpty = Type("string", _required, "")
Bool = Type("bool", _boolean, False)
Size = Type("size", units.parse_bytes, 0)
SizeOrPercent = Type("size or percentage", _percent_or_size, "")
BitRate = Type("bit rate", units.parse_bits, 0)
Mac = Type("MAC address", _mac, "")
IP = Type("IP address", _address("IP", ipaddress.ip_address), None)
IPv4 = Type("IPv4 address", _address("IPv4", ipaddress.IPv4Address), None)
IPv6 = Type("IPv6 address", _address("IPv6", ipaddress.IPv6Address), None)
Subnet = Type("subnet", _network("IP", None), None)
IPv4Subnet = Type("IPv4 subnet", _network("IPv4", 4), None)
IPv6Subnet = Type("IPv6 subnet", _network("IPv6", 6), None)
IPv4Cidr = Type("IPv4 CIDR", _interface("IPv4", 4), None)
IPv6Cidr = Type("IPv6 CIDR", _interface("IPv6", 6), None)
IPv4Range = Type("IPv4 range", _range(4), None)
IPv6Range = Type("IPv6 range", _range(6), None)
InterfaceName = Type("interface name", _interface_name, "")
Hostname = Type("host name", _hostname, "")
Cron = Type("cron expression", _cron, "")
Expiry = Type("expiry", _expiry, "")
AbsolutePath = Type("absolute path", _path, "")
Port = Int(0, 65535)
Uint32 = Type("integer", _uint32, 0)
