"""Leases as LXD lists them."""

from __future__ import annotations

from chassis.keys import Config
from services.network import leases
from services.network.usage import Nic

CONFIG = Config({"ipv4.address": "198.18.1.1/24", "ipv6.address": "fd42:1::1/64"})
FILE = """1700000000 00:16:3e:00:00:02 198.18.1.77 c2 01:00:16:3e:00:00:02
duid 00:01:00:01:32:9c:d2:83:5a:92:d1:a1:33:fe
1700000000 12345 fd42:1::77 c2 00:01:00:01:32:9c:d2:83:00:16:3e:00:00:02
rubbish
"""


def nic(name: str, mac: str, project: str = "default", **config: str) -> Nic:
    return Nic(
        project, name, "eth0", {"type": "nic", **{k.replace("_", "."): v for k, v in config.items()}}, {"hwaddr": mac}
    )


def listed(project: str, nics: list[Nic]) -> list[tuple[str, str, str]]:
    found = leases.of_network("nb0", CONFIG, nics, leases.parse(FILE), project=project, home="default", location="none")
    return [(lease.hostname, lease.address, lease.type) for lease in found]


def test_gateways_fixed_predicted_and_handed_out() -> None:
    found = listed("default", [nic("c1", "00:16:3e:00:00:01", ipv4_address="198.18.1.5")])
    assert found == [
        ("nb0.gw", "198.18.1.1", "gateway"),
        ("nb0.gw", "fd42:1::1", "gateway"),
        ("c1", "198.18.1.5", "static"),
        ("c1", "fd42:1::216:3eff:fe00:1", "dynamic"),
        ("c2", "198.18.1.77", "dynamic"),
        ("c2", "fd42:1::77", "dynamic"),
    ]


def test_another_project_sees_its_own_only() -> None:
    nics = [nic("c1", "00:16:3e:00:00:01"), nic("w", "00:16:3e:00:00:09", "web", ipv4_address="198.18.1.9")]
    assert listed("web", nics) == [
        ("w", "198.18.1.9", "static"),
        ("w", "fd42:1::216:3eff:fe00:9", "dynamic"),
    ]


def test_the_mac_of_a_dhcpv6_lease_comes_from_its_duid() -> None:
    assert [entry.hwaddr for entry in leases.parse(FILE)] == ["00:16:3e:00:00:02"] * 2


def test_a_release_names_client_server_and_address() -> None:
    entry = next(leases.parse(FILE))
    packet = leases.release_packet(entry, "198.18.1.1", b"abcd")
    assert packet[12:16] == bytes([198, 18, 1, 77])
    assert packet[28:34] == bytes.fromhex("00163e000002")
    assert packet[240:249] == bytes([53, 1, 7, 54, 4, 198, 18, 1, 1])
