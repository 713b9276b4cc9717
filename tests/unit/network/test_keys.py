"""Keys of bridge networks: values, and LXD's sentences about wrong ones."""

from __future__ import annotations

import pytest

from chassis import errors
from chassis.keys import Config
from services.network.drivers.bridge import keys

WRONG = [
    ("foo", "bar", 'Invalid option for network "n" option "foo"'),
    ("ipv4.nat", "maybe", 'Invalid value for a boolean "maybe"'),
    ("bridge.mtu", "x", 'Invalid MTU "x"'),
    ("bridge.mtu", "10", 'Out of MTU range (1280-16384) "10"'),
    ("bridge.hwaddr", "zz", "Invalid MAC address, must be 6 bytes of hex separated by colons"),
    ("bridge.driver", "zz", 'Invalid value "zz" (not one of [native openvswitch])'),
    ("bridge.external_interfaces", "a/b", "Network interface contains invalid characters"),
    ("ipv4.address", "bogus", "invalid CIDR address: bogus"),
    ("ipv4.address", "10.0.0.0/24", 'Not a usable IPv4 address "10.0.0.0/24"'),
    ("ipv4.address", "10.0.0.1", "invalid CIDR address: 10.0.0.1"),
    ("ipv6.address", "fd42::1/128", 'Not a usable IPv6 address "fd42::1/128"'),
    ("ipv4.dhcp.ranges", "zz", 'Item "zz": IP range must contain start and end IP addresses'),
    ("ipv4.dhcp.gateway", "zz", 'Not an IPv4 address "zz"'),
    ("ipv4.dhcp.expiry", "1h,tag:x", 'Invalid lease time "1h,tag:x"'),
    ("ipv4.routes", "zz", 'Item "zz": invalid CIDR address: zz'),
    ("ipv6.routes", "10.0.0.0/8", 'Not an IPv6 network "10.0.0.0/8"'),
    ("ipv4.nat.order", "zz", 'Invalid value "zz" (not one of [before after])'),
    ("ipv6.nat.address", "10.0.0.1", 'Not an IPv6 address "10.0.0.1"'),
    ("dns.mode", "zz", 'Invalid value "zz" (not one of [dynamic managed none])'),
    ("dns.search", "a.b,c d", 'Item "c d": Invalid domain name "c d"'),
    ("dns.domain", "lxd\nconf-file=/x", "Invalid domain name"),
    ("tunnel.t1.protocol", "foo", 'Invalid value "foo" (not one of [gre vxlan])'),
    ("tunnel.t1.foo", "foo", 'Invalid option for network "n" option "tunnel.t1.foo"'),
    ("tunnel.t1.ttl", "300", 'Invalid value for an integer "300". Must be between 0 and 255'),
    ("tunnel.t1.id", "x", 'Invalid value for an integer "x"'),
    ("tunnel.t1.port", "99999", "Invalid port number: 99999"),
    ("tunnel.t1.interface", "x", "Network interface is too short"),
    ("fan.type", "vxlan", "FAN configuration may only be set when in 'fan' mode"),
    ("ipv4.ovn.ranges", "10.0.0.4-10.0.0.9", '"ipv4.ovn.ranges" must be used in conjunction with'),
]


@pytest.mark.parametrize(("key", "text", "told"), WRONG)
def test_a_wrong_value_is_named(key: str, text: str, told: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        keys.SCHEMA.validate({key: text}, network='"n"')
    assert told in caught.value.text


def test_a_whole_configuration_is_taken() -> None:
    config = {
        "ipv4.address": "198.18.1.1/24",
        "ipv4.dhcp.ranges": "198.18.1.10-198.18.1.20,198.18.1.30-198.18.1.40",
        "ipv4.ovn.ranges": "198.18.1.100-198.18.1.120",
        "ipv6.address": "auto",
        "dns.search": "a.example,b.example",
        "tunnel.t1.protocol": "vxlan",
        "user.anything": "goes\nhere",
        "raw.dnsmasq": "dhcp-boot=x",
    }
    keys.SCHEMA.validate(config, network='"n"')
    assert [str(first) for first, _ in Config(config)[keys.IPV4_RANGES]] == ["198.18.1.10", "198.18.1.30"]


@pytest.mark.parametrize(
    ("config", "mtu"), [({}, 1500), ({"tunnel.a.protocol": "vxlan"}, 1400), ({"bridge.mtu": "9000"}, 9000)]
)
def test_the_mtu_leaves_room_for_tunnels(config: dict[str, str], mtu: int) -> None:
    assert keys.mtu(Config(config)) == mtu


@pytest.mark.parametrize("text", ["none", "auto", ""])
def test_no_address_is_none(text: str) -> None:
    assert keys.address4(Config({"ipv4.address": text})) is None
