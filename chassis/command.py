"""The one way to run a host tool.

    command = Command("mkfs.btrfs", "--label", Value(label), "--", Value(device))
    output = await command.run(timeout=60)

There is never a shell. What a client may have chosen is wrapped in `Value`: it is refused if it could be
taken for an option (it begins with "-") unless it stands after "--" or is part of one word ("--label=x"
through `option`). A tool that is missing names its package.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chassis import errors

WORDS = 4096  # bytes of a complaint that are kept of a tool that is read or fed piece by piece
PACKAGES = {
    "blkid": "util-linux",
    "bzip2": "bzip2",
    "btrfs": "btrfs-progs",
    "ceph": "ceph-common",
    "criu": "criu",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "lvs": "lvm2",
    "losetup": "mount",
    "lvcreate": "lvm2",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mksquashfs": "squashfs-tools",
    "mount": "mount",
    "nft": "nftables",
    "ovs-vsctl": "openvswitch-switch",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "rbd": "ceph-common",
    "rsync": "rsync",
    "swtpm": "swtpm",
    "sysctl": "procps",
    "tar": "tar",
    "umount": "mount",
    "unsquashfs": "squashfs-tools",
    "wipefs": "util-linux",
    "xz": "xz-utils",
    "zfs": "zfsutils-linux",
    "zpool": "zfsutils-linux",
    "zstd": "zstd",
}
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Value(str):
    """A text that somebody else chose."""


class Failed(errors.Internal):
    """A tool ended with a code other than 0."""

    def __init__(self, text: str, code: int = -1, stderr: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Output:
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


def find(tool: str) -> str | None:
    """Path of a host tool, None if it is not installed. Also looks where root's tools are."""
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":" + SEARCH)


def missing(tool: str) -> errors.Internal:
    package = PACKAGES.get(tool)
    hint = f" (install the Debian package {package})" if package else ""
    return errors.Internal(f'Required tool "{tool}" is missing{hint}')


def option(name: str, value: str) -> str:
    """`--name=value` as one word, in which a value cannot become an option."""
    return f"{name}={_plain(value)}"


def _plain(value: str) -> str:
    if "\0" in value:
        raise errors.BadRequest(f"Invalid value {value!r}: holds a NUL byte")
    return str(value)


@dataclass(frozen=True, slots=True)
class Running:
    """A tool that runs. Its standard error is read all the time, so that it never waits for a reader."""

    process: asyncio.subprocess.Process
    complaint: asyncio.Future[bytes]

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None, "opened without a pipe to write to"
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None, "opened without a pipe to read from"
        return self.process.stdout

    async def ended(self) -> tuple[int, str]:
        """Wait for its end: its exit code, and the beginning of what it complained of."""
        code = await self.process.wait()
        return code, (await self.complaint).decode(errors="replace").strip()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


class Command:
    """An argument vector. Raises BadRequest when a Value could be taken for an option."""

    def __init__(
        self,
        tool: str,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> None:
        self.tool = tool
        self.arguments = tuple(self._checked(arguments))
        self.environment = environment
        self.cwd = cwd

    @staticmethod
    def _checked(arguments: Sequence[str | Path]) -> list[str]:
        checked: list[str] = []
        for argument in arguments:
            word = _plain(str(argument))
            if isinstance(argument, Value) and word.startswith("-") and "--" not in checked:
                raise errors.BadRequest(f"Invalid value {word!r}: begins with a dash")
            checked.append(word)
        return checked

    def __str__(self) -> str:
        return " ".join((self.tool, *self.arguments))

    def vector(self) -> list[str]:
        """For who must start it in another way. Raises if the tool is missing."""
        path = find(self.tool)
        if path is None:
            raise missing(self.tool)
        return [path, *self.arguments]

    async def run(
        self, *, timeout: float | None = 60.0, stdin: bytes | None = None, codes: Sequence[int] = (0,)
    ) -> Output:
        """Wait for its end. Raises Failed with the tool's own words for a code outside of `codes`,
        Unavailable after `timeout` seconds.

        When the caller is cancelled or the time is up the whole process group is killed.
        """
        process = await self._start(
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout):
                stdout, stderr = await process.communicate(stdin)
        except TimeoutError:
            raise errors.Unavailable(f"{self.tool} did not finish within {timeout:g}s") from None
        finally:
            await _end(process)
        code = process.returncode if process.returncode is not None else -1
        if code not in codes:
            raise Failed(self._complaint(code, stderr), code, stderr.decode(errors="replace"))
        return Output(code, stdout, stderr)

    @asynccontextmanager
    async def open(
        self, *, stdin: int = asyncio.subprocess.DEVNULL, stdout: int = asyncio.subprocess.PIPE
    ) -> AsyncIterator[Running]:
        """The started tool, for who feeds it or reads it piece by piece; its whole process group is killed if it still
        runs at the end of the block."""
        process = await self._start(stdin=stdin, stdout=stdout)
        assert process.stderr is not None
        complaint = asyncio.ensure_future(process.stderr.read(WORDS))
        try:
            yield Running(process, complaint)
        finally:
            complaint.cancel()
            await _end(process)

    async def _start(self, *, stdin: int, stdout: int) -> asyncio.subprocess.Process:
        """The started tool. A caller that is cancelled in the meantime leaves nothing behind: asyncio itself would kill only the
        tool, and wait for whatever else has its pipes."""
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self.vector(),
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                env=self._environ(),
                cwd=self.cwd,
                start_new_session=True,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):  # it could not be started
                await _end(await starting)
            raise

    def _environ(self) -> dict[str, str]:
        base = {"PATH": os.environ.get("PATH", SEARCH), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        return {**base, **(self.environment or {})}

    def _complaint(self, code: int, stderr: bytes) -> str:
        words = stderr.decode(errors="replace").strip()
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        return f"Failed to run: {self}: {how}" + (f" ({words[-2000:]})" if words else "")
