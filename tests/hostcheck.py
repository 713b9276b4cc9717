"""Fails the run when it leaves something on the host: a process, mount, link, cgroup, network namespace, table, loop device or file.

What belongs to the run is told by marks, so that whatever else the machine does meanwhile stays out of it: every process of the run
inherits NUBIBUS_TEST_RUN, and every directory it makes lies below NUBIBUS_TEST_TMP. Links, nftables tables and cgroups bear no
mark; new ones count only when no other server or test run was at work before or after.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

RUN = "NUBIBUS_TEST_RUN"
TMP = "NUBIBUS_TEST_TMP"
PATIENCE = 20.0  # seconds that the kernel gets to tear down what is already on its way out
OURS = re.compile(r"nubibus|lxc|lxd|dnsmasq|^nbt", re.IGNORECASE)
ELSEWHERE = re.compile(
    r"^/(run/(lxcfs|systemd|udev|user|lock|lxc/lock)|var/lib/(apt|dpkg|lxcfs|lxd|nubibus|ucf|systemd))(/|$)"
)


@dataclass(frozen=True)
class Host:
    """What is there: kind -> names. `marked` kinds hold only what belongs to the run."""

    marked: dict[str, set[str]]
    unmarked: dict[str, set[str]]


def look(mark: str, folder: Path) -> Host:
    return Host(
        marked={
            "process": set(processes(mark)),
            "mount": set(mounts(folder)),
            "loop device": set(loops(folder)),
        },
        unmarked={
            "link": links(),
            "nftables table": tables(),
            "cgroup": set(cgroups()),
            "network namespace": set(names("/run/netns")),
            "file": set(files()),
        },
    )


def processes(mark: str) -> Iterator[str]:
    """Those with the run's mark in their environment, pytest itself and its ancestors aside."""
    wanted = f"{RUN}={mark}\0".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes() and (entry / "cmdline").read_bytes():
                    yield f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')[:120]}"
            except OSError:
                continue


def mounts(folder: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if Path(target).is_relative_to(folder):
            yield target


def loops(folder: Path) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        text = backing.read_text().strip()
        if text.startswith(str(folder)):
            yield f"{backing.parts[3]} {text}"


def links() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def tables() -> set[str]:
    if shutil.which("nft") is None:
        return set()
    listing = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, check=False)
    found = json.loads(listing.stdout or "{}").get("nftables", [])
    return {f"{one['table']['family']} {one['table']['name']}" for one in found if "table" in one}


def cgroups() -> Iterator[str]:
    for path, folders, _files in os.walk("/sys/fs/cgroup"):
        yield from (f"{path}/{name}" for name in folders if OURS.search(name))


def names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def files() -> Iterator[str]:
    for top in ("/run", "/var/lib", "/tmp"):
        for name in names(top):
            path = f"{top}/{name}"
            if OURS.search(name) and not ELSEWHERE.match(path):
                yield path


def others(mark: str) -> list[str]:
    """Servers and test runs that are not of this run: while one is there, nobody can say who made an unmarked thing."""
    found = []
    wanted = f"{RUN}={mark}\0".encode()
    family = ancestors()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in family:
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if _serves(command) and wanted not in (entry / "environ").read_bytes():
                    found.append(b" ".join(command).decode(errors="replace")[:80])
            except OSError:
                continue
    return found


def _serves(command: list[bytes]) -> bool:
    words = {word.rpartition(b"/")[2] for word in command[:6]}
    return bool(words & {b"lxd", b"supervisor", b"pytest", b"dnsmasq", b"serve"})


def ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


@dataclass
class HostCheck:
    """The plugin: looks before the first test and after the last."""

    mark: str
    folder: Path
    before: Host | None = None
    alone: bool = True
    left: list[str] = field(default_factory=list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        self.alone = not others(self.mark)
        self.before = look(self.mark, self.folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly or self.before is None:
            return
        shutil.rmtree(self.folder / "pytest", ignore_errors=True)
        self.left = self._settled(lambda: self._difference())
        if self.left:
            _report(session, "The run left on the host:\n" + "\n".join(f"  {line}" for line in self.left))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _settled(self, difference: Callable[[], list[str]]) -> list[str]:
        """What is left when it no longer changes for the better."""
        deadline = time.monotonic() + PATIENCE
        while (left := difference()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def _difference(self) -> list[str]:
        assert self.before is not None
        now = look(self.mark, self.folder)
        found = [f"{kind}: {name}" for kind, there in now.marked.items() for name in there - self.before.marked[kind]]
        if self.alone and not others(self.mark):
            for kind, there in now.unmarked.items():
                found += [f"{kind}: {name}" for name in there - self.before.unmarked[kind] if name != str(self.folder)]
        return sorted(found)


def _report(session: pytest.Session, text: str) -> None:
    """As an error of its own in pytest's summary."""
    report = pytest.TestReport(
        nodeid="tests/hostcheck.py::the_host_is_as_before",
        location=("tests/hostcheck.py", 0, "the_host_is_as_before"),
        keywords={},
        outcome="failed",
        longrepr=text,
        when="teardown",
    )
    session.config.hook.pytest_runtest_logreport(report=report)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    """Set the marks before anything is started, and put all temporary directories of the run below one folder."""
    mark = secrets.token_hex(4)
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"nbt-{mark}"
    folder.mkdir(mode=0o711)
    os.environ[RUN] = mark
    os.environ[TMP] = str(folder)
    if config.option.basetemp is None:
        config.option.basetemp = folder / "pytest"
    config.pluginmanager.register(HostCheck(mark, folder), "nubibus-hostcheck")


def pytest_unconfigure() -> None:
    folder = os.environ.pop(TMP, "")
    os.environ.pop(RUN, None)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
