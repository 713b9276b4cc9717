"""dnsmasq's command line and its hosts files."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.keys import Config
from services.network import dhcp
from services.network.drivers.bridge import dnsmasq
from services.network.usage import Nic

FILES = dhcp.Files(Path("/d/networks/nb0"))


def arguments(**config: str) -> tuple[str, ...]:
    texts = {key.replace("_", "."): text for key, text in config.items()}
    return dnsmasq.arguments("nb0", Config({"ipv4.address": "198.18.1.1/24", **texts}), FILES)


def test_the_whole_subnet_is_handed_out_but_for_the_gateway() -> None:
    found = arguments()
    assert "--dhcp-range=198.18.1.2,198.18.1.254,1h" in found
    assert "--listen-address=198.18.1.1" in found
    assert not any(argument.startswith("--dhcp-option") for argument in found)


EFFECTS = [
    ({"ipv4_dhcp_expiry": "5m"}, "--dhcp-range=198.18.1.2,198.18.1.254,5m"),
    ({"ipv4_dhcp_gateway": "198.18.1.9"}, "--dhcp-option-force=3,198.18.1.9"),
    ({"dns_search": "a.example,b.example"}, "--dhcp-option-force=119,a.example,b.example"),
    ({"bridge_mtu": "1400"}, "--dhcp-option-force=26,1400"),
    ({"ipv4_dhcp_ranges": "198.18.1.5-198.18.1.7"}, "--dhcp-range=198.18.1.5,198.18.1.7,1h"),
    ({"dns_domain": "x.example"}, "--domain=x.example"),
    ({"dns_mode": "none"}, "--port=0"),
    ({"ipv6_address": "fd42:1::1/64"}, "--dhcp-range=::,constructor:nb0,ra-stateless,ra-names"),
    ({"ipv6_address": "fd42:1::1/64", "ipv6_dhcp": "false"}, "--dhcp-range=::,constructor:nb0,ra-only"),
    (
        {"ipv6_address": "fd42:1::1/64", "ipv6_dhcp_stateful": "true"},
        "--dhcp-range=fd42:1::2,fd42:1::ffff:ffff:ffff:ffff,64,1h",
    ),
]


@pytest.mark.parametrize(("config", "argument"), EFFECTS)
def test_a_key_becomes_its_argument(config: dict[str, str], argument: str) -> None:
    assert argument in arguments(**config)


def test_without_dhcp_names_are_still_answered() -> None:
    found = arguments(ipv4_dhcp="false")
    assert not any(argument.startswith("--dhcp-range") for argument in found)
    assert "--listen-address=198.18.1.1" in found


def test_every_value_is_within_one_option() -> None:
    assert all(argument.startswith("--") for argument in arguments(dns_search="a.example")[1:])


def test_a_subnet_without_room_hands_out_nothing() -> None:
    found = dnsmasq.arguments("nb0", Config({"ipv4.address": "198.18.1.1/31"}), FILES)
    assert not any(argument.startswith("--dhcp-range") for argument in found)


def test_hosts_are_named_as_lxd_names_them() -> None:
    found = dhcp.hosts(
        [
            dhcp.Host("default", "c1", "eth0", "00:16:3e:00:00:01", "198.18.1.5", "fd42:1::5"),
            dhcp.Host("web", "c1", "eth0", "00:16:3e:00:00:02"),
        ],
        "managed",
    )
    assert found == {
        "c1.eth0": "00:16:3e:00:00:01,198.18.1.5,[fd42:1::5],c1\n",
        "web_c1.eth0": "00:16:3e:00:00:02,c1.web\n",
    }


def test_a_host_without_address_and_name_has_no_file() -> None:
    assert dhcp.hosts([dhcp.Host("default", "c1", "eth0", "00:16:3e:00:00:01")], "dynamic") == {}


def test_nothing_that_is_no_name_or_address_gets_into_a_hosts_file() -> None:
    nic = Nic(
        "de,fault\n", "c1", "eth0", {"type": "nic", "ipv4.address": "1.2.3.4\n5"}, {"hwaddr": "00:16:3e:00:00:01"}
    )
    assert dhcp.hosts([nic.dhcp()], "managed")[nic.dhcp().file] == "00:16:3e:00:00:01,c1.de-fault-\n"
    assert Nic("default", "c1", "eth0", {"hwaddr": "00:16:3e:00:00:01,x"}, {}).hwaddr == ""


def test_a_device_name_cannot_leave_the_directory() -> None:
    assert "/" not in dhcp.Host("default", "c1", "../../x", "00:16:3e:00:00:01").file
