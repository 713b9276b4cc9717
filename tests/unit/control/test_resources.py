"""The hardware of a machine: of the real one against its kernel, and of machines that are made of files."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from services.control.resources import cpu, gpu, memory, network, pci, read, storage, system, usb
from services.control.resources.machine import natural
from tests.unit.control.machines import Tree

extension = pytest.mark.extension


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path)
    made.file("proc/sys/kernel/osrelease", "6.1.0")
    return made


def thread(tree: Tree, number: int, package: int, core: int, node: int = 0, die: int = 0) -> None:
    base = f"sys/devices/system/cpu/cpu{number}"
    tree.files(f"{base}/topology", physical_package_id=str(package), core_id=str(core), die_id=str(die))
    tree.link(f"{base}/node{node}", f"sys/devices/system/node/node{node}")


@extension("resources")
def test_this_machine_is_what_its_kernel_says() -> None:
    found = read()
    assert found["cpu"]["total"] == os.sysconf("SC_NPROCESSORS_CONF")
    assert found["cpu"]["architecture"] == os.uname().machine
    usable = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usable <= found["memory"]["total"] <= usable * 1.1  # installed memory, some of which the kernel keeps
    assert 0 < found["memory"]["used"] < found["memory"]["total"]
    assert found["pci"]["total"] == len(os.listdir("/sys/bus/pci/devices")) if os.path.isdir("/sys/bus/pci") else True
    names = {port["id"] for card in found["network"]["cards"] for port in card.get("ports", [])}
    assert names == {name for name in os.listdir("/sys/class/net") if os.path.exists(f"/sys/class/net/{name}/device")}
    assert set(found) == {"cpu", "memory", "gpu", "network", "storage", "usb", "pci", "system"}


@extension("resources_cpu_socket")
def test_sockets_have_the_numbers_of_their_packages(tree: Tree) -> None:
    for number, package in enumerate((3, 1, 3, 1)):
        thread(tree, number, package, core=number)
    found = cpu.read(tree.machine)
    threads = {
        socket["socket"]: [t["id"] for core in socket["cores"] for t in core["threads"]] for socket in found["sockets"]
    }
    assert threads == {1: [1, 3], 3: [0, 2]}
    assert found["total"] == 4


@extension("resources_numa")
@extension("resources_cpu_threads_numa")
def test_each_thread_says_its_node(tree: Tree) -> None:
    thread(tree, 0, 0, 0, node=0)
    thread(tree, 1, 0, 0, node=1)
    (core,) = cpu.read(tree.machine)["sockets"][0]["cores"]
    assert [(t["id"], t["thread"], t["numa_node"]) for t in core["threads"]] == [(0, 0, 0), (1, 1, 1)]
    assert "numa_node" not in core
    tree.pci("0000:00:01.0", numa_node="-1")
    assert pci.read(tree.machine)["devices"][0]["numa_node"] == 0


@extension("resources_cpu_core_die")
def test_cores_say_their_die_and_none_is_die_zero(tree: Tree) -> None:
    thread(tree, 0, 0, core=0, die=0)
    thread(tree, 1, 0, core=0, die=1)
    thread(tree, 2, 0, core=7, die=-1)
    cores = cpu.read(tree.machine)["sockets"][0]["cores"]
    assert [(core["die"], core["core"]) for core in cores] == [(0, 0), (0, 7), (1, 0)]


@extension("resources_cpu_isolated")
def test_isolated_and_offline_threads(tree: Tree) -> None:
    for number in range(4):
        thread(tree, number, 0, core=number)
    tree.file("sys/devices/system/cpu/isolated", "1,3-5")
    tree.file("sys/devices/system/cpu/cpu2/online", "0")
    threads = [core["threads"][0] for core in cpu.read(tree.machine)["sockets"][0]["cores"]]
    assert [t["isolated"] for t in threads] == [False, True, False, True]
    assert [t["online"] for t in threads] == [True, True, False, True]


@extension("resources_v2")
def test_caches_frequencies_hugepages_and_partitions(tree: Tree) -> None:
    thread(tree, 0, 0, core=0)
    base = "sys/devices/system/cpu/cpu0"
    tree.files(f"{base}/cache/index0", level="1", type="Data", size="32K")
    tree.files(f"{base}/cache/index3", level="3", type="Unified", size="32M")
    tree.files(f"{base}/cpufreq", scaling_cur_freq="2400000", cpuinfo_min_freq="800000", cpuinfo_max_freq="4100000")
    tree.file("proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nphysical id\t: 0\n")
    (socket,) = cpu.read(tree.machine)["sockets"]
    assert socket["cache"][0] == {"level": 1, "type": "Data", "size": 32768}
    assert socket["cache"][1]["size"] == 32 * 1024**2
    assert (socket["vendor"], socket["name"]) == ("AuthenticAMD", "AMD EPYC")
    assert (socket["frequency"], socket["frequency_minimum"], socket["frequency_turbo"]) == (2400, 800, 4100)

    tree.file(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 50 kB\nCached: 50 kB\n"
        "HugePages_Total: 4\nHugePages_Free: 3\nHugepagesize: 2048 kB\n",
    )
    found = memory.read(tree.machine)
    assert (found["total"], found["used"]) == (1024000, 614400)
    assert (found["hugepages_size"], found["hugepages_total"], found["hugepages_used"]) == (2097152, 8388608, 2097152)

    disk(tree, "sda", "scsi")
    tree.files("sys/class/block/sda/sda1", partition="1", size="2048", dev="8:1", ro="1")
    (shown,) = storage.read(tree.machine)["disks"]
    assert shown["partitions"] == [{"id": "sda1", "device": "8:1", "read_only": True, "size": 1048576, "partition": 1}]
    assert storage.read(tree.machine)["total"] == 2


def test_memory_of_each_node_comes_from_its_blocks(tree: Tree) -> None:
    tree.file("sys/devices/system/memory/block_size_bytes", "8000000")
    tree.file("sys/devices/system/node/node1/meminfo", "Node 1 MemTotal: 1000 kB\nNode 1 MemFree: 400 kB\n")
    for number in range(3):
        tree.file(f"sys/devices/system/memory/memory{number}/online", "1" if number < 2 else "0")
        tree.link(f"sys/devices/system/node/node1/memory{number}", f"sys/devices/system/memory/memory{number}")
    found = memory.read(tree.machine)
    assert found["total"] == 2 * 0x8000000
    assert found["nodes"] == [
        {"numa_node": 1, "hugepages_used": 0, "hugepages_total": 0, "used": 614400, "total": 2 * 0x8000000}
    ]


def disk(tree: Tree, name: str, bus: str, on: str = "", **texts: str) -> None:
    """A disk on a bus, below a device if one is given."""
    device = f"{on or 'sys/devices/platform'}/{name}-dev"
    tree.files(device)
    tree.link(f"{device}/subsystem", f"sys/bus/{bus}")
    tree.files(f"sys/class/block/{name}", **{"dev": "8:0", "size": "2048", "ro": "0", "removable": "0", **texts})
    tree.link(f"sys/class/block/{name}/device", device)


@extension("resources_disk_sata")
def test_a_sata_disk_tells_serial_firmware_speed_and_path(tree: Tree) -> None:
    disk(tree, "sda", "scsi")
    tree.files("sys/class/block/sda/queue", rotational="1", physical_block_size="4096")
    tree.files("sys/devices/platform/sda-dev", model="WDC", rev="1.02")
    tree.file("run/udev/data/b8:0", "S:disk/by-id/x\nE:ID_SERIAL_SHORT=WD-123\nE:ID_ATA_ROTATION_RATE_RPM=7200")
    tree.file("dev/sda", "")
    (tree.root / "dev/disk/by-path").mkdir(parents=True)
    (tree.root / "dev/disk/by-path/pci-0000:00:1f.2-ata-1").symlink_to("../../sda")
    (shown,) = storage.read(tree.machine)["disks"]
    assert (shown["serial"], shown["firmware_version"], shown["rpm"]) == ("WD-123", "1.02", 7200)
    assert (shown["device_path"], shown["block_size"], shown["model"]) == ("pci-0000:00:1f.2-ata-1", 4096, "WDC")


@extension("resources_disk_id")
def test_the_id_of_a_disk_is_its_link_and_always_there(tree: Tree) -> None:
    disk(tree, "sda", "scsi")
    assert storage.read(tree.machine)["disks"][0]["device_id"] == ""
    tree.file("dev/sda", "")
    (tree.root / "dev/disk/by-id").mkdir(parents=True)
    (tree.root / "dev/disk/by-id/virtio-abc").symlink_to("../../sda")
    assert storage.read(tree.machine)["disks"][0]["device_id"] == "virtio-abc"


@extension("resources_disk_address")
def test_disks_say_where_they_hang(tree: Tree) -> None:
    on_pci = tree.pci("0000:00:02.0")
    disk(tree, "vda", "virtio", on=on_pci)
    on_usb = tree.usb("1-2", 1, 5)
    disk(tree, "sdb", "scsi", on=on_usb)
    found = {one["id"]: one for one in storage.read(tree.machine)["disks"]}
    assert (found["vda"]["pci_address"], found["vda"]["type"]) == ("0000:00:02.0", "virtio")
    assert "usb_address" not in found["vda"]
    assert (found["sdb"]["usb_address"], found["sdb"]["type"]) == ("1:5", "usb")


def test_loops_and_partitions_are_no_disks(tree: Tree) -> None:
    tree.files("sys/class/block/loop0", size="8")
    disk(tree, "sda", "scsi")
    tree.files("sys/class/block/sda1", partition="1")
    tree.link("sys/class/block/sda1/device", "sys/devices/platform/sda-dev")
    assert [one["id"] for one in storage.read(tree.machine)["disks"]] == ["sda"]


def nic(tree: Tree, name: str, on: str, **texts: str) -> None:
    tree.files(f"sys/class/net/{name}", **{"address": "00:16:3e:00:00:01", "type": "1", "carrier": "1", **texts})
    tree.link(f"sys/class/net/{name}/device", on)


def test_a_card_has_ports_and_its_virtual_functions_stand_below_it(tree: Tree) -> None:
    card = tree.pci("0000:00:03.0", "ixgbe", sriov_totalvfs="63", sriov_numvfs="1", **{"class": "0x020000"})
    function = tree.pci("0000:00:10.0", "ixgbevf", **{"class": "0x020000"})
    tree.link(f"{card}/virtfn0", function)
    nic(tree, "eth0", card, speed="10000", duplex="full")
    nic(tree, "eth1", card, dev_port="1", speed="-1")
    nic(tree, "vf0", function)
    tree.files("sys/class/net/lo")
    tree.file("usr/share/misc/pci.ids", "8086  Intel Corporation\n\t10fb  82599ES 10-Gigabit")
    found = network.read(tree.machine)
    (shown,) = found["cards"]
    assert (shown["driver"], shown["vendor"], shown["product"]) == ("ixgbe", "Intel Corporation", "82599ES 10-Gigabit")
    assert [(port["id"], port["port"], port.get("link_speed")) for port in shown["ports"]] == [
        ("eth0", 0, 10000),
        ("eth1", 1, None),
    ]
    assert (shown["sriov"]["maximum_vfs"], shown["sriov"]["current_vfs"]) == (63, 1)
    (inner,) = shown["sriov"]["vfs"]
    assert (inner["pci_address"], inner["ports"][0]["id"]) == ("0000:00:10.0", "vf0")
    assert found["total"] == 1


def drvinfo(driver: bytes, firmware: bytes) -> bytes:
    """linux/ethtool.h: struct ethtool_drvinfo, as a driver fills it in."""
    texts = [driver, b"6.1.0", firmware, b"0000:00:05.0"]
    return struct.pack("I", 3) + b"".join(text.ljust(32, b"\0") for text in texts) + bytes(64)


@extension("resources_network_firmware")
@pytest.mark.parametrize(("told", "version"), [(b"1.8-0", "1.8-0"), (b"N/A", None), (b"", None), (b"x" * 32, "x" * 32)])
def test_a_card_tells_its_firmware(tree: Tree, told: bytes, version: str | None) -> None:
    nic(tree, "eth0", tree.pci("0000:00:05.0", "e1000e"))

    def answer(link: str, command: bytes) -> bytes | None:
        return drvinfo(b"e1000e", told) if (link, struct.unpack_from("I", command)[0]) == ("eth0", 3) else None

    tree.machine.drivers = answer
    (shown,) = network.read(tree.machine)["cards"]
    assert shown.get("firmware_version") == version


@extension("resources_network_usb")
def test_a_card_on_usb_has_that_address_and_no_other(tree: Tree) -> None:
    nic(tree, "usb0", tree.usb("1-3", 1, 4))
    (shown,) = network.read(tree.machine)["cards"]
    assert shown["usb_address"] == "1:4"
    assert "pci_address" not in shown


@extension("resources_infiniband")
def test_infiniband_ports_name_their_devices(tree: Tree) -> None:
    card = tree.pci("0000:00:05.0", "mlx4_core")
    nic(tree, "ib0", card, type="32")
    nic(tree, "ib1", card, type="32", dev_port="1")
    for number, port in ((0, 1), (1, 2)):
        tree.files(f"{card}/infiniband_mad/umad{number}", dev=f"231:{number}", port=str(port))
        tree.files(f"{card}/infiniband_mad/issm{number}", dev=f"231:{64 + number}", port=str(port))
    tree.files(f"{card}/infiniband_verbs/uverbs0", dev="231:192")
    ports = network.read(tree.machine)["cards"][0]["ports"]
    assert [port["protocol"] for port in ports] == ["infiniband", "infiniband"]
    assert ports[1]["infiniband"] == {
        "issm_name": "issm1", "issm_device": "231:65", "mad_name": "umad1", "mad_device": "231:1",
        "verb_name": "uverbs0", "verb_device": "231:192",
    }  # fmt: skip
    assert ports[0]["infiniband"]["mad_name"] == "umad0"


@extension("resources_gpu")
def test_a_graphics_card_names_its_nodes(tree: Tree) -> None:
    card = tree.pci("0000:00:06.0", "i915", **{"class": "0x030000"})
    tree.files(f"{card}/drm/card0", dev="226:0")
    tree.files(f"{card}/drm/renderD128", dev="226:128")
    tree.link("sys/class/drm/card0", f"{card}/drm/card0")
    tree.link(f"{card}/drm/card0/device", card)
    tree.link("sys/class/drm/card0-HDMI-A-1", f"{card}/drm/card0/card0-HDMI-A-1")
    tree.pci("0000:00:07.0", **{"class": "0x030000"})
    found = gpu.read(tree.machine)
    assert found["total"] == 2
    assert found["cards"][0]["drm"] == {
        "id": 0, "card_name": "card0", "card_device": "226:0", "render_name": "renderD128", "render_device": "226:128",
    }  # fmt: skip
    assert "drm" not in found["cards"][1]


@extension("resources_gpu_mdev")
def test_mediated_devices(tree: Tree) -> None:
    card = tree.pci("0000:00:02.0", "i915", **{"class": "0x030000"})
    base = f"{card}/mdev_supported_types/i915-GVTg_V5_4"
    tree.files(base, device_api="vfio-pci", available_instances="1", description="low_gm_size: 128MB", name="GVTg")
    tree.files(f"{base}/devices/1b6b7a2c-9c9e-4c8e-8d5f-0d9b3d7f0001")
    (shown,) = gpu.read(tree.machine)["cards"]
    assert shown["mdev"]["i915-GVTg_V5_4"] == {
        "api": "vfio-pci", "available": 1, "name": "GVTg", "description": "low_gm_size: 128MB",
        "devices": ["1b6b7a2c-9c9e-4c8e-8d5f-0d9b3d7f0001"],
    }  # fmt: skip


@extension("resources_gpu_usb")
def test_a_graphics_card_on_usb(tree: Tree) -> None:
    card = tree.usb("1-4", 1, 7)
    tree.files(f"{card}/drm/card1", dev="226:1")
    tree.link("sys/class/drm/card1", f"{card}/drm/card1")
    tree.link(f"{card}/drm/card1/device", card)
    (shown,) = gpu.read(tree.machine)["cards"]
    assert shown["usb_address"] == "1:7"
    assert "pci_address" not in shown


def test_an_nvidia_card_tells_what_its_driver_says(tree: Tree) -> None:
    tree.pci("0000:01:00.0", "nvidia", **{"class": "0x030000"})
    tree.file("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.60.13  x")
    tree.file(
        "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t Tesla T4\nGPU UUID: \t GPU-1\nDevice Minor: \t 0"
    )
    (shown,) = gpu.read(tree.machine)["cards"]
    assert shown["nvidia"] == {
        "nvrm_version": "525.60.13", "model": "Tesla T4", "uuid": "GPU-1", "card_name": "nvidia0", "card_device": "195:0",
    }  # fmt: skip


@extension("resources_usb_pci")
def test_usb_devices_without_hubs_and_pci_devices(tree: Tree) -> None:
    tree.usb("usb1", 1, 1, bDeviceClass="09")
    path = tree.usb(
        "1-1", 1, 2, bDeviceClass="00", idVendor="0627", idProduct="0001", speed="1.5", product="QEMU USB Tablet"
    )
    tree.files(f"{path}/1-1:1.0", bInterfaceClass="03", bInterfaceNumber="00", bInterfaceSubClass="00")
    tree.link(f"{path}/1-1:1.0/driver", "sys/bus/usb/drivers/usbhid")
    found = usb.read(tree.machine)
    (shown,) = found["devices"]
    assert (shown["vendor_id"], shown["product"], shown["speed"]) == ("0627", "QEMU USB Tablet", 1.5)
    (interface,) = shown["interfaces"]
    assert (interface["class"], interface["driver"], interface["driver_version"]) == (
        "Human Interface Device",
        "usbhid",
        "6.1.0",
    )
    tree.pci("0000:00:01.0", "virtio-pci", vendor="0x1af4", device="0x1045")
    device = pci.read(tree.machine)["devices"][0]
    assert (device["pci_address"], device["vendor_id"], device["product_id"]) == ("0000:00:01.0", "1af4", "1045")
    assert (device["driver"], device["driver_version"]) == ("virtio-pci", "6.1.0")


@extension("resources_pci_iommu")
def test_iommu_groups(tree: Tree) -> None:
    path = tree.pci("0000:00:01.0")
    tree.link(f"{path}/iommu_group", "sys/kernel/iommu_groups/7")
    tree.pci("0000:00:02.0")
    assert [device["iommu_group"] for device in pci.read(tree.machine)["devices"]] == [7, 0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"\x82\x05\x00Board\x90\x0d\x00PN\x03ABCSN\x04wxyz\x78",
            {"product_name": "Board", "entries": {"PN": "ABC", "SN": "wxyz"}},
        ),
        (b"\x82\x05\x00Board\x90\x09\x00PN\x03ABCRV\x00\x78", {"product_name": "Board", "entries": {"PN": "ABC"}}),
        (b"\x82\xff\xffBo", {"product_name": "Bo"}),
        (b"garbage", {}),
        (b"", {}),
    ],
)
def test_vital_product_data_also_when_it_is_cut_short(tree: Tree, data: bytes, expected: dict[str, Any]) -> None:
    path = tree.pci("0000:00:01.0")
    tree.file(f"{path}/vpd", data)
    assert pci.read(tree.machine)["devices"][0]["vpd"] == expected


@extension("resources_system")
def test_the_system_is_what_its_firmware_says(tree: Tree) -> None:
    assert system.read(tree.machine)["firmware"] is None
    tree.files(
        "sys/class/dmi/id", product_name="Standard PC", sys_vendor="QEMU", chassis_type="1", bios_vendor="SeaBIOS",
        bios_date="04/01/2014", bios_version="1.16", board_name="B", product_uuid="u-1",
    )  # fmt: skip
    found = system.read(tree.machine)
    assert (found["vendor"], found["product"], found["uuid"], found["type"]) == (
        "QEMU",
        "Standard PC",
        "u-1",
        "physical",
    )
    assert found["firmware"] == {"vendor": "SeaBIOS", "date": "04/01/2014", "version": "1.16"}
    assert found["chassis"]["type"] == "Other"
    assert found["motherboard"]["product"] == "B"
    tree.file("proc/cpuinfo", "flags\t\t: fpu hypervisor sse")
    assert system.read(tree.machine)["type"] == "virtual-machine"
    tree.file("run/systemd/container", "lxc")
    assert system.read(tree.machine)["type"] == "container"


def test_a_machine_of_which_nothing_is_known_has_nothing(tree: Tree) -> None:
    found = read(tree.root)
    assert found["cpu"] == {"architecture": os.uname().machine, "sockets": [], "total": 0}
    for name in ("gpu", "network"):
        assert found[name] == {"cards": [], "total": 0}
    assert found["storage"] == {"disks": [], "total": 0}
    assert found["memory"]["total"] == 0


def test_nonsense_reads_as_nothing(tree: Tree) -> None:
    tree.file("x", "K")
    tree.file("binary", b"\xff\xfe")
    assert tree.machine.number("x", default=7) == 7
    assert tree.machine.number("binary") == 0
    assert tree.machine.numbers("x") == set()
    assert sorted(("cpu10", "cpu9", "cpu"), key=natural) == ["cpu", "cpu9", "cpu10"]
