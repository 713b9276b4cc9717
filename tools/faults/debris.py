"""What is there of a server: rows, files, mounts, links, tables, leases, cgroups, processes. What a case leaves is the difference."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.world import TOKEN
from tools.faults.subject import Subject

# How deep each folder of the server is looked into: what an instance itself writes is not ours.
DEPTHS = {
    "storage-pools": 4,
    "instances": 2,
    "networks": 3,
    "images": 2,
    "cache": 3,
    "backups": 4,
    "disks": 1,
    "run": 0,
    "devices": 3,
}
UNTOLD = re.compile(r"row\.(control_warning|operation)\.")
CHANGING = re.compile(r"/(backup\.yaml|lxc\.log(\.old)?|console\.log|dnsmasq\.(pid|leases))$")


def look(subject: Subject) -> Counter[str]:
    """Everything that a case must leave as it was, as lines."""
    found: Counter[str] = Counter()
    for line in (*_rows(subject), *_files(subject.directory), *_mounts(subject), *_links(subject), *_tables(subject)):
        found[line] += 1
    for line in (*_leases(subject.directory), *_cgroups(), *_processes(subject)):
        found[line] += 1
    return found


def _rows(subject: Subject) -> Iterator[str]:
    for name, row in subject.rows().items():
        if not UNTOLD.match(name):
            yield f"row {name}"
        elif name.startswith("row.operation.") and row.get("status_code", 103) < 200:
            yield f"operation {row['saga']}"


def _files(directory: Path) -> Iterator[str]:
    for name, depth in DEPTHS.items():
        yield from _below(directory / name, str(directory), depth)


def _below(folder: Path, base: str, depth: int) -> Iterator[str]:
    if depth == 0 or not folder.is_dir():
        return
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:  # it may go while it is looked at
        for entry in entries:
            path = entry.path.removeprefix(base)
            if not CHANGING.search(path):
                yield f"file {path}"
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), base, depth - 1)


def _mounts(subject: Subject) -> Iterator[str]:
    """In the namespace of the service that mounts."""
    started = subject.server.started
    assert started is not None
    for line in Path(f"/proc/{started.pid}/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if target.startswith(f"{subject.directory}/"):
            yield f"mount {target}"


def mark(subject: Subject) -> str:
    """What the links and tables of this server bear."""
    return hashlib.sha256(str(subject.directory).encode()).hexdigest()[:6]


def _links(subject: Subject) -> Iterator[str]:
    listing = subprocess.run(["ip", "-j", "-d", "link"], capture_output=True, text=True, check=True).stdout
    for link in json.loads(listing):
        if mark(subject) in link.get("ifalias", "") or link.get("master") in (
            subject.bridge.name,
            subject.other_bridge.name,
        ):
            yield f"link {link['ifname']}"


def _tables(subject: Subject) -> Iterator[str]:
    listing = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, check=False).stdout
    for one in json.loads(listing or "{}").get("nftables", []):
        if mark(subject) in one.get("table", {}).get("name", ""):
            yield f"table {one['table']['family']} {one['table']['name']}"


def _leases(directory: Path) -> Iterator[str]:
    for leases in (directory / "networks").glob("*/dnsmasq.leases"):
        with contextlib.suppress(FileNotFoundError):
            yield from (f"lease {line}" for line in leases.read_text().splitlines() if not line.startswith("duid"))


def _cgroups() -> Iterator[str]:
    """Groups of containers: liblxc names them after the instance, and the names of this process's instances hold its token."""
    top = Path("/sys/fs/cgroup")
    for folder in (top, *(path for path in top.iterdir() if path.is_dir())):
        with contextlib.suppress(OSError):
            yield from (
                f"cgroup {folder}/{name}" for name in os.listdir(folder) if name[:4] == "lxc." and TOKEN in name
            )


def _processes(subject: Subject) -> Iterator[str]:
    """By command line: what names the server's directory, its parts aside (a restart may change how they are called)."""
    wanted = str(subject.directory).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            words = b" ".join(command).strip()
            if wanted in words and b"services." not in words and b"nats-server" not in words:
                yield f"process {words.decode(errors='replace')}"
