"""What a filtered nic may send, frame by frame on a real kernel: each forgery by itself, for a guest makes its frames as it likes."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from services.network.host import Host
from services.network.nics import apply, plan
from tests.drivers.network.conftest import sh

MAC, OTHER = "00:16:3e:00:00:01", "00:16:3e:00:00:66"
ALL, BROADCAST = 0x0003, "ff:ff:ff:ff:ff:ff"
IP, ARP, IP6, LOCAL = 0x0800, 0x0806, 0x86DD, 0x88B5
UDP, ICMP6 = 17, 58
OWN, ROUTED, FOREIGN = "198.18.1.5", "198.18.9.7", "198.18.1.66"
OWN6, FOREIGN6, LINK6 = "fd42:1::5", "fd42:1::66", "fe80::216:3eff:fe00:1"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def frame(kind: int, payload: bytes, source: str = MAC) -> bytes:
    return mac(BROADCAST) + mac(source) + kind.to_bytes(2, "big") + payload


def arp(address: str, sender: str = MAC, source: str = MAC) -> bytes:
    ends = mac(sender) + ip_address(address).packed + bytes(6) + ip_address("198.18.1.1").packed
    return frame(ARP, struct.pack("!HHBBH", 1, IP, 6, 4, 1) + ends, source)


def ip4(address: str, target: str = "198.18.1.255", port: int = 9, source: str = MAC) -> bytes:
    udp = struct.pack("!HHHH", 68, port, 8, 0)
    ends = ip_address(address).packed + ip_address(target).packed
    words = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP)
    total = sum(struct.unpack("!9H", words + ends))
    checksum = 0xFFFF - (total % 0xFFFF)
    return frame(IP, words + checksum.to_bytes(2, "big") + ends + udp, source)


def ip6(address: str, icmp: bytes = bytes([128, 0, 0, 0, 0, 0, 0, 0])) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(icmp), ICMP6, 255)
    return frame(IP6, head + ip_address(address).packed + ip_address("ff02::1").packed + icmp)


def advertisement(target: str, link: str = MAC) -> bytes:
    """An ICMPv6 neighbour advertisement with the option that tells a link-layer address."""
    return bytes([136, 0, 0, 0, 0x20, 0, 0, 0]) + ip_address(target).packed + bytes([2, 1]) + mac(link)


MINE = {
    "own arp": arp(OWN),
    "arp probe": arp("0.0.0.0"),
    "own address": ip4(OWN),
    "routed address": ip4(ROUTED),
    "dhcp": ip4("0.0.0.0", "255.255.255.255", 67),
    "own ipv6": ip6(OWN6),
    "link local": ip6(LINK6),
    "own advertisement": ip6(OWN6, advertisement(OWN6)),
}
FORGED = {
    "mac of another": ip4(OWN, source=OTHER),
    "arp for the mac of another": arp(OWN, sender=OTHER),
    "arp for the address of another": arp(FOREIGN),
    "address of another": ip4(FOREIGN),
    "no address but to dhcp": ip4("0.0.0.0", "255.255.255.255", 53),
    "ipv6 of another": ip6(FOREIGN6),
    "advertisement of another": ip6(OWN6, advertisement(FOREIGN6)),
    "advertisement for the mac of another": ip6(OWN6, advertisement(OWN6, OTHER)),
    "router advertisement": ip6(LINK6, bytes([134]) + bytes(15)),
    "another protocol": frame(LOCAL, b"hidden"),
}
PLAIN = {  # what only the filter of addresses minds
    "arp for the address of another", "address of another", "no address but to dhcp", "ipv6 of another", "advertisement of another",
    "router advertisement", "another protocol",
}  # fmt: skip


def passed(host: Host, wanted: plan.Wanted) -> set[str]:
    """Which of the frames come out on the bridge. The last one always does, and they keep their order."""
    sh(host, f"ip link set {wanted.peer_name} up")
    last, found = ip4(OWN, port=7), set()
    names = {sent: name for name, sent in {**MINE, **FORGED}.items()}
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL)) as ear,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as mouth,
    ):
        ear.bind(("br0", ALL))
        ear.settimeout(0.2)
        mouth.bind((wanted.peer_name, 0))
        for _ in range(100):  # until the bridge forwards
            mouth.send(last)
            if _heard(ear, last) is not None:
                break
        for sent in (*names, last):
            mouth.send(sent)
        ear.settimeout(30)
        while (heard := ear.recv(2048)) != last or not found:
            if heard in names:  # the kernel says something of its own now and then
                found.add(names[heard])
    return found


def _heard(ear: socket.socket, wanted: bytes) -> bytes | None:
    try:
        while (heard := ear.recv(2048)) != wanted:
            continue
    except TimeoutError:
        return None
    return heard


@pytest.fixture
async def bridge(host: Host) -> Host:
    await host.run(sh, "ip link add br0 type bridge && ip address add 198.18.1.1/24 dev br0 && ip link set br0 up")
    return host


def bridged(**config: str) -> plan.Wanted:
    device = {f"security.{name}": "true" for name in config} | {"ipv4.routes": "198.18.9.0/24"}
    addresses = (OWN if "ipv4_filtering" in config else "", OWN6 if "ipv6_filtering" in config else "")
    return plan.bridged(device, bridge="br0", host_name="veth0000aaaa", hwaddr=MAC, mtu=1500, addresses=addresses)


async def test_a_nic_without_a_filter_sends_what_it_likes(bridge: Host) -> None:
    wanted = bridged()
    await bridge.run(apply.attach, wanted)
    assert await bridge.run(passed, wanted) == {*MINE, *FORGED}


async def test_a_mac_filter_lets_nothing_through_that_names_another_mac(bridge: Host) -> None:
    wanted = bridged(mac_filtering="")
    await bridge.run(apply.attach, wanted)
    assert await bridge.run(passed, wanted) == {*MINE, *PLAIN}


async def test_a_filter_of_addresses_lets_no_forgery_through(bridge: Host) -> None:
    wanted = bridged(ipv4_filtering="", ipv6_filtering="")
    await bridge.run(apply.attach, wanted)
    assert await bridge.run(passed, wanted) == set(MINE)
