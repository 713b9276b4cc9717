"""Builds the small busybox image, offline: a rootfs of about 2 MB from Debian's `busybox-static`, and its metadata.

Both trees are made as tar streams in memory, so no root, no device node and no scratch directory is needed, and the
same input always gives the same bytes (hence the same fingerprint). Needs only the standard library, plus `zstd` and
`mksquashfs` for those two formats.

    python tools/busybox_image.py unified tar.xz  bb.tar.xz
    python tools/busybox_image.py split   squashfs  meta.tar.xz rootfs.squashfs
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import platform
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
CREATED = 1_700_000_000
PROPERTIES = {"os": "Busybox", "release": "1.35", "architecture": "x86_64", "description": "Busybox (test image)"}
DIRECTORIES = ("bin", "dev", "etc", "etc/init.d", "home", "mnt", "proc", "root", "run", "sbin", "sys", "usr",
               "usr/bin", "usr/sbin", "var", "var/lib", "var/log")  # fmt: skip

# PID 1. liblxc asks an init to stop with SIGPWR and to reboot with SIGINT; busybox's own init obeys, but sleeps two
# seconds on the way out. This one is gone at once, keeps a shell on the console and reaps orphans while it waits.
# USR1, USR2 and TERM are what busybox's halt, poweroff and reboot send to PID 1.
INIT = """\
#!/bin/sh
trap 'exit 0' PWR USR1 USR2
trap 'reboot -f' INT TERM
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root TERM=${TERM:-linux}
/etc/init.d/rcS
while :; do
    setsid -c /bin/sh -l <>/dev/console >&0 2>&1 &
    wait $!
done
"""

RC = """\
#!/bin/sh
/sbin/ifconfig lo up
[ -e /sys/class/net/eth0 ] && /sbin/net-up eth0 &
exit 0
"""

NET_UP = """\
#!/bin/sh
# net-up INTERFACE: bring it up and keep asking for a DHCPv4 lease in the background, unless it was given an address already.
ip link set "$1" up
ip -4 address show dev "$1" | grep -q "inet " && exit 0
exec udhcpc -b -t 3 -T 1 -A 2 -i "$1" -s /etc/udhcpc.script -x hostname:"$(hostname)" -O search >/dev/null 2>&1
"""

UDHCPC = """\
#!/bin/sh
# Called by udhcpc with what the server offered; /run/dhcp.INTERFACE keeps the last answer for tests to read.
case "$1" in
bound|renew)
    ip -4 address flush dev "$interface"
    ip address add "$ip/$mask" dev "$interface"
    [ -n "$router" ] && ip route replace default via "${router%% *}" dev "$interface"
    {
        [ -n "$search$domain" ] && echo "search ${search:-$domain}"
        for server in $dns; do echo "nameserver $server"; done
    } >/etc/resolv.conf
    env >"/run/dhcp.$interface.new" && mv "/run/dhcp.$interface.new" "/run/dhcp.$interface"
    ;;
deconfig) ip -4 address flush dev "$interface" ;;
esac
"""

FILES: dict[str, tuple[int, str]] = {
    "sbin/init": (0o755, INIT),
    "etc/init.d/rcS": (0o755, RC),
    "etc/udhcpc.script": (0o755, UDHCPC),
    "etc/passwd": (0o644, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n"),
    "etc/group": (0o644, "root:x:0:\nuser:x:1000:\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost\n::1 localhost\n"),
    "sbin/net-up": (0o755, NET_UP),
}
TEMPLATES = {"hostname.tpl": "{{ container.name }}\n"}
TEMPLATE_RULES: dict[str, object] = {
    "/etc/hostname": {
        "when": ["create", "copy", "rename"],
        "template": "hostname.tpl",
        "create_only": False,
        "properties": {},
    }
}


@dataclass
class Tree:
    """A tar stream being written: entries keep the order they were added in."""

    prefix: str = ""
    buffer: io.BytesIO = field(default_factory=io.BytesIO)

    def __post_init__(self) -> None:
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(
        self,
        name: str,
        kind: bytes,
        mode: int,
        data: bytes = b"",
        link: str = "",
        raw: bool = False,
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        """Adds one entry; `raw` takes the name as it stands, without the prefix (hostile images need that)."""
        entry = tarfile.TarInfo(name if raw else self.prefix + name)
        entry.type, entry.mode, entry.linkname = kind, mode, link
        entry.mtime, entry.size = CREATED, len(data)
        entry.uid, entry.gid = owner
        self.tar.addfile(entry, io.BytesIO(data))

    def file(self, name: str, data: bytes, mode: int = 0o644, raw: bool = False) -> None:
        self.add(name, tarfile.REGTYPE, mode, data, raw=raw)

    def directory(self, name: str, mode: int = 0o755) -> None:
        self.add(name, tarfile.DIRTYPE, mode)

    def symlink(self, name: str, target: str, raw: bool = False) -> None:
        self.add(name, tarfile.SYMTYPE, 0o777, link=target, raw=raw)

    def bytes(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def applets(busybox: Path = BUSYBOX) -> list[str]:
    """The paths busybox would install itself to, without a leading slash."""
    listing = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True).stdout
    return sorted(line for line in listing.split() if line.strip("/"))


def add_rootfs(tree: Tree, extra: Mapping[str, tuple[int, str]] | None = None) -> None:
    """Adds the root file system below the tree's prefix; `extra` adds or replaces files (path -> mode, text)."""
    for name in DIRECTORIES:
        tree.directory(name)
    tree.directory("tmp", 0o1777)
    tree.file("bin/busybox", BUSYBOX.read_bytes(), 0o755)
    files = {**FILES, **(extra or {})}
    for path in applets():
        if path not in files and path != "bin/busybox":
            tree.symlink(path, "/bin/busybox")
    for path, (mode, text) in sorted(files.items()):
        tree.file(path, text.encode(), mode)


def metadata(properties: Mapping[str, str] | None = None, **overrides: object) -> dict[str, object]:
    """The content of metadata.yaml; keyword arguments replace or (with None) leave out a field."""
    document: dict[str, object] = {
        "architecture": platform.machine(),
        "creation_date": CREATED,
        "properties": {**PROPERTIES, **(properties or {})},
        "templates": TEMPLATE_RULES,
        **overrides,
    }
    return {key: value for key, value in document.items() if value is not None}


def add_metadata(tree: Tree, document: Mapping[str, object]) -> None:
    tree.file("metadata.yaml", json.dumps(document, indent=1).encode())  # JSON is YAML, and needs no library
    tree.directory("templates")
    for name, text in TEMPLATES.items():
        tree.file(f"templates/{name}", text.encode())


def unified_tar(
    document: Mapping[str, object] | None = None, extra: Mapping[str, tuple[int, str]] | None = None
) -> bytes:
    """Metadata and `rootfs/` in one uncompressed tar."""
    tree = Tree()
    add_metadata(tree, document or metadata())
    tree.directory("rootfs")
    tree.prefix = "rootfs/"
    add_rootfs(tree, extra)
    return tree.bytes()


def metadata_tar(document: Mapping[str, object] | None = None) -> bytes:
    tree = Tree()
    add_metadata(tree, document or metadata())
    return tree.bytes()


def rootfs_tar(extra: Mapping[str, tuple[int, str]] | None = None) -> bytes:
    tree = Tree()
    add_rootfs(tree, extra)
    return tree.bytes()


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True).stdout


def squashfs(tar: bytes, target: Path) -> bytes:
    """The tar as a squashfs file, written to `target` on the way."""
    target.unlink(missing_ok=True)
    command = ["mksquashfs", "-", str(target), "-tar", "-quiet", "-no-progress", "-noappend", "-comp", "gzip"]
    subprocess.run(command, input=tar, check=True, capture_output=True)
    return target.read_bytes()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda data: gzip.compress(data, 6, mtime=0),
    "tar.xz": lambda data: lzma.compress(data, preset=1),
    "tar.lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=1),
    "tar.bz2": lambda data: bz2.compress(data, 1),
    "tar.zst": _zstd,
}


def main(arguments: list[str]) -> int:
    shape, kind, *targets = arguments
    if shape == "unified":
        Path(targets[0]).write_bytes(COMPRESSORS[kind](unified_tar()))
    elif shape == "split":
        Path(targets[0]).write_bytes(COMPRESSORS["tar.xz"](metadata_tar()))
        if kind == "squashfs":
            squashfs(rootfs_tar(), Path(targets[1]))
        else:
            Path(targets[1]).write_bytes(COMPRESSORS[kind](rootfs_tar()))
    for target in targets:
        assert stat.S_ISREG(Path(target).stat().st_mode)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
