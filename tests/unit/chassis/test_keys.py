"""Keys: declared once, read typed, validated in LXD's words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from chassis.key_types import (
    IP,
    BitRate,
    Bool,
    Cron,
    Enum,
    Expiry,
    Hostname,
    Int,
    InterfaceName,
    IPv4Cidr,
    IPv4Range,
    IPv6Subnet,
    List,
    Mac,
    NotEmpty,
    Or,
    Size,
    Str,
    Type,
    is_true,
)
from chassis.keys import Config, Key, Schema

MTU = Key("bridge.mtu", Int(68, 65535), default="1500", since="network", doc="MTU of the bridge")
NAT = Key("ipv4.nat", Bool, doc="masquerade")
USER = Key("user.*", Str)
TUNNEL = Key("tunnel.*.id", Int(0, 16777215))
ADDRESS = Key("ipv4.address", Or(Enum("none", "auto"), IPv4Cidr))
DRIVER = Key("driver", Enum("native", "ovs"))
VLAN = Key("vlan", Int(0, 4095), applies=lambda texts: texts.get("driver") == "ovs")
SCHEMA = Schema(
    "test",
    [MTU, NAT, USER, TUNNEL, ADDRESS, DRIVER, VLAN],
    unknown="Invalid option for network {name} option {key}",
    invalid="Invalid value for network {name} option {key}: {reason}",
)


def test_reading() -> None:
    config = Config({"ipv4.nat": "yes", "tunnel.a.id": "7", "tunnel.b.id": "8", "user.x.y": "z", "bridge.mtu": ""})
    assert config[MTU] == 1500
    assert config[NAT] is True
    assert Config({})[NAT] is False
    assert Config({})[DRIVER] == ""
    assert Config({}).get(DRIVER) is None
    assert MTU not in config
    assert NAT in config
    assert dict(config.each(TUNNEL)) == {("a",): 7, ("b",): 8}
    assert list(config.each(USER)) == [(("x.y",), "z")]
    assert TUNNEL.at("a") == "tunnel.a.id"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"bridge.mtu": "5"}, "Value isn't within valid range. Must be between 68 and 65535"),
        ({"bridge.mtu": "x"}, 'Invalid value for an integer "x"'),
        ({"ipv4.nat": "maybe"}, 'Invalid value for a boolean "maybe"'),
        ({"driver": "bogus"}, 'Invalid value "bogus" (not one of [native ovs])'),
        ({"ipv4.address": "10.0.0.1"}, "Not an IPv4 CIDR address: 10.0.0.1"),
        ({"tunnel.a.id": "-1"}, "Value isn't within valid range. Must be between 0 and 16777215"),
    ],
)
def test_wrong_values(config: dict[str, str], text: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        SCHEMA.validate(config, name='"lxdbr0"')
    (key,) = config
    assert caught.value.text == f'Invalid value for network "lxdbr0" option "{key}": {text}'


@pytest.mark.parametrize("key", ["user.a\nb", "user.\x7f", "tunnel.a\nb.id"])
def test_a_name_holds_no_control_characters(key: str) -> None:
    with pytest.raises(errors.BadRequest, match="Invalid option for network"):
        SCHEMA.validate({key: "1"}, name="x")


def test_a_deep_key_may_name_what_holds_dots() -> None:
    deep = Key("volatile.*.hwaddr", Str, deep=True)
    assert deep.match("volatile.eth.0.hwaddr") == ("eth.0",)
    assert deep.match("volatile.eth\n0.hwaddr") is None
    assert Key("volatile.*.hwaddr", Str).match("volatile.eth.0.hwaddr") is None


@pytest.mark.parametrize("key", ["bridge.mtux", "tunnel.a.b.id", "tunnel..id", "user.", "user", "vlan"])
def test_unknown_keys(key: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        SCHEMA.validate({key: "1"}, name='"lxdbr0"')
    assert caught.value.text == f'Invalid option for network "lxdbr0" option "{key}"'


def test_conditions_required_keys_and_rules() -> None:
    SCHEMA.validate({"driver": "ovs", "vlan": "5"}, name="x")

    def rule(config: Config) -> None:
        if config[NAT] and ADDRESS not in config:
            raise ValueError("NAT needs an address")

    source = Key("source", NotEmpty, required=True)
    strict = Schema("test", [source, NAT, ADDRESS], rules=(rule,), fault=errors.Internal)
    with pytest.raises(errors.Internal, match='Invalid value for option "source": Required value'):
        strict.validate({})
    with pytest.raises(errors.Internal, match="NAT needs an address"):
        strict.validate({"source": "x", "ipv4.nat": "true"})
    strict.validate({"source": "x", "ipv4.nat": "true", "ipv4.address": "10.0.0.1/24"})


def test_a_key_with_braces_is_named_as_it_is() -> None:
    with pytest.raises(errors.BadRequest, match=r'option "\{0\}"'):
        SCHEMA.validate({"{0}": "{key}"}, name="x")


def test_description() -> None:
    assert SCHEMA.describe()[0] == {
        "key": "bridge.mtu",
        "type": "integer",
        "default": "1500",
        "since": "network",
        "liveupdate": True,
        "scope": None,
        "condition": None,
        "description": "MTU of the bridge",
    }


GOOD: list[tuple[Type[Any], str, Any]] = [
    (Size, "10MiB", 10 * 1024**2),
    (BitRate, "1Mbit", 1_000_000),
    (Mac, "00:16:3E:aa:bb:cc", "00:16:3e:aa:bb:cc"),
    (List(Int(0, 9)), "1, 2,3", (1, 2, 3)),
    (InterfaceName, "lxdbr0", "lxdbr0"),
    (Hostname, "a-1", "a-1"),
    (Cron, "0 6 * * *", "0 6 * * *"),
    (Cron, "@daily, @startup", "@daily, @startup"),
    (Expiry, "1d 3H", "1d 3H"),
]


@pytest.mark.parametrize(("type_", "text", "value"), GOOD)
def test_types(type_: Type[Any], text: str, value: Any) -> None:
    assert type_.parse(text) == value


BAD: list[tuple[Type[Any], str, str]] = [
    (Size, "10mib", "Invalid value: 10mib"),
    (Mac, "00:16", "Invalid MAC address, must be 6 bytes of hex separated by colons"),
    (Int(least=5), "4", "Value isn't within valid range. Must be between 5 and 9223372036854775807"),
    (List(Int(0, 9)), "1,10", 'Item "10": Value isn\'t within valid range. Must be between 0 and 9'),
    (IP, "1.2.3", 'Not an IP address "1.2.3"'),
    (IPv6Subnet, "10.0.0.0/24", 'Not an IPv6 network "10.0.0.0/24"'),
    (IPv6Subnet, "fd42::1/64", 'Not an IPv6 network address "fd42::1/64"'),
    (IPv4Range, "10.0.0.1", "IP range must contain start and end IP addresses"),
    (IPv4Range, "10.0.0.9-10.0.0.1", "Start IP address must be before or equal to end IP address"),
    (InterfaceName, "x", "Network interface is too short (minimum 2 characters)"),
    (InterfaceName, "x" * 16, "Network interface is too long (maximum 15 characters)"),
    (InterfaceName, "a/b", "Network interface contains invalid characters"),
    (Hostname, "-a", 'Name must not start with "-" character'),
    (Hostname, "a/b", "Name can only contain alphanumeric and hyphen characters"),
    (Hostname, "x" * 64, "Name must be 1-63 characters long"),
    (Cron, "5 *", "Schedule must be of the form: <minute> <hour> <day-of-month> <month> <day-of-week>"),
    (Expiry, "soon", "Invalid expiry expression"),
]


@pytest.mark.parametrize(("type_", "text", "reason"), BAD)
def test_types_refuse(type_: Type[Any], text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        type_.parse(text)
    assert str(caught.value) == reason


def test_truth() -> None:
    assert [is_true(text) for text in ("true", "TRUE", "1", "yes", "on", "", "0", "x")] == [True] * 5 + [False] * 3


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_anything_is_valid_or_refused(config: dict[str, str]) -> None:
    try:
        SCHEMA.validate(config, name="x")
    except errors.BadRequest:
        return
    assert all(SCHEMA.find(key) for key in config)


def test_long_names_are_found_and_not_remembered() -> None:
    """Clients choose them, also those that are refused."""
    schema = Schema("thing", [USER])
    short, long = "user.a", "user." + "a" * 1000
    for _ in range(2):
        assert schema.find(short) is schema.find(long) is USER
    assert schema._declares.cache_info().currsize == 1
