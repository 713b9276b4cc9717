"""The starter process: `python -I -S forker.py FD FOLDER_OF_LXC`. Never imported by the service (see `starter`).

One single-threaded process that has liblxc loaded, reads jobs from a socket and forks one child for each. liblxc moves whoever
starts a container between cgroups, and a fork of this little process costs a tenth of starting Python. Each container's monitor is
such a fork and shares its pages with this process, so it imports next to nothing (the C halves `_socket`, `_signal` instead of
`socket`, `signal`; `marshal` instead of json: both ends are the same interpreter) and never runs the collector.

A job: 4 bytes of length (with the descriptors), then a marshalled dict. Its first descriptor is the status pipe that the child
answers on, in lines; a reader that closes it tells the child of an attach to kill what it attached. End of file on the socket (the
service is gone) ends this process; children go on by themselves.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import fcntl
import gc
import marshal
import os
import select
import sys
from collections.abc import Callable
from typing import Any

MOST_FDS = 8
FD_BYTES = 4
CMSG_CLOEXEC = 0x40000000
TIOCSCTTY = 0x540E
PATIENCE = (
    8  # seconds: a monitor is deaf while it waits for a system call to be served (`interception.deputy.DEADLINE`)
)
NOT_FOUND, NOT_EXECUTABLE, LOST = 127, 126, 255
STARTED = "started"
NOTIFY = "lxc.seccomp.notify.proxy"
ATTEMPTS = 50  # of an attach; each fails by a chance of less than one in a hundred
SAFE_PATH = (
    "/nonexistent"  # without newuidmap in PATH liblxc writes id maps itself: any range, and two processes fewer a start
)
Job = dict[str, Any]

EVERYTHING, MOVE_TO_CGROUP = 0xFFFF, 1  # liblxc's LXC_ATTACH_DEFAULT and a part of it
CLONE3 = 435  # the same number everywhere
PR_SET_CHILD_SUBREAPER = 36
CLONE_INTO_CGROUP = 0x200000000

_lxc: Any = None
_ctypes: Any = None


def container(job: Job) -> Any:
    """liblxc's object. The file is not named "config", so that it is read exactly once. Raises ValueError if liblxc cannot read it."""
    found = _lxc.Container(job["name"], job["path"])
    if not found.load_config(f"{job['path']}/{job['name']}/lxc.conf"):
        raise ValueError("liblxc refuses the configuration")
    return found


def say(status: int, text: str) -> None:
    """A line for the service; it may be gone."""
    try:  # noqa: SIM105  (contextlib stays out of this process)
        os.write(status, f"{text}\n".encode())
    except OSError:
        pass


def start(job: Job, fds: list[int]) -> int:
    """Bring a container to RUNNING. The lock is this process's alone (fcntl locks are not inherited): whoever takes over waits for it."""
    lock = os.open(f"{job['path']}/.starting", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(lock, fcntl.LOCK_EX, 1, os.getpid())  # one byte each, so that starts do not wait for each other
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for standard in range(3):
        os.dup2(null, standard)
    found = container(job)
    if not found.start(False, True, True):
        say(fds[0], "failed")
        return 1
    say(fds[0], f"{STARTED} {found.init_pid}")
    return 0


def attach(job: Job, fds: list[int]) -> int:
    """Put a command into a container and tell its pid, that it has begun (once it was let) and how it ended."""
    status, *streams, job["go"] = fds
    begun, closes_on_exec = os.pipe()  # both do; once nobody holds it the command has its terminal and is itself
    pid = attach_from_within(job, streams, status) or enter(job, streams, EVERYTHING)
    if pid < 0:
        say(status, "failed")
        return 1
    for used in {0, 1, 2, *streams, job["go"], closes_on_exec}:
        os.close(used)
    say(status, f"pid {pid}")
    os.read(begun, 1)
    say(status, "begun")
    say(status, f"exit {await_end(pid, status)}")
    return 0


def enter(job: Job, streams: list[int], flags: int) -> int:
    """The pid of the command that liblxc has attached; it is a child of this process. -1 if it could not."""
    names = ("stdin", "stdout", "stderr")
    options = {"uid": job["uid"], "gid": job["gid"], "initial_cwd": "/", "attach_flags": flags}
    options.update(zip(names, streams, strict=True))
    found = container(job)
    if found.get_config_item(NOTIFY):
        return attach_in_order(found, job, options)
    pid: int = found.attach(execute, job, **options)
    return pid


def attach_from_within(job: Job, streams: list[int], status: int) -> int:
    """As `enter`, but from a process that has put itself into the container's cgroups; 0 if that was not to be.

    Who writes another process's number into cgroup.procs waits for a grace period of RCU, some 10 ms. A process that moves only
    itself ("0" in `tasks`), or is made in a group of cgroup2, waits for nothing. All the rest of an attach stays liblxc's.
    """
    told, tell = os.pipe()
    between = clone_into(job["leaf"])
    if between < 0:
        return 0
    if between == 0:
        try:
            os.close(status)
            found = enter(job, streams, EVERYTHING & ~MOVE_TO_CGROUP) if join(job) else 0
            os.write(tell, f"{found}\n".encode())
        finally:
            os._exit(0)
    os.close(tell)
    os.waitpid(between, 0)  # what it has attached is this process's child now
    os.set_blocking(told, False)  # the command has the other end too
    try:
        return int(os.read(told, 32))
    except (BlockingIOError, ValueError):  # it was killed: nothing lets go what it may have attached
        return -1


def clone_into(group: str) -> int:
    """As fork, but the child stands in that group of cgroup2 ("": where this process stands). -1 if it cannot be.

    Whom the child leaves behind becomes a child of this process.
    """
    if _ctypes is None or libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        return -1
    try:
        folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if group else 0
    except OSError:
        return -1
    words = [CLONE_INTO_CGROUP if group else 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder]  # struct clone_args
    found = libc("syscall", CLONE3, b"".join(word.to_bytes(8, sys.byteorder) for word in words), 8 * len(words))
    if group:
        os.close(folder)
    return found


def libc(name: str, *arguments: int | bytes) -> int:
    """What a function of the C library returns."""
    found: int = _ctypes.call_function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name), arguments)
    return found


def join(job: Job) -> bool:
    """Move this process into the cgroups of a container; whether it is in every one that the container's init is in."""
    try:
        for tasks in job["tasks"]:
            file = os.open(tasks, os.O_WRONLY | os.O_CLOEXEC)
            os.write(file, b"0")
            os.close(file)
        return payload_groups(job["init"], job["payload"]) == payload_groups(os.getpid(), job["payload"])
    except OSError:
        return False


def payload_groups(pid: int, payload: str) -> list[str]:
    """The hierarchies, as lines of /proc/PID/cgroup begin, in which a process is in that group or below it."""
    with open(f"/proc/{pid}/cgroup") as file:
        return [line.rpartition(":")[0] for line in file if payload in line.rstrip("\n").split("/")]


def attach_in_order(found: Any, job: Job, options: dict[str, Any]) -> int:
    """Where system calls are held up, two of liblxc's processes write to a third without regard to each other: the child its filter's
    listener, its parent the child's pid. If the listener comes first, liblxc gives up while the child goes on, with calls that nobody
    serves. So the child waits until it is told that all went well, else it ends, and it is tried again.
    """
    for _ in range(ATTEMPTS):
        told, tell = os.pipe()
        pid: int = found.attach(execute, {**job, "await": (told, tell)}, **options)
        os.close(told)
        if pid >= 0:
            os.write(tell, b"\n")
        os.close(tell)
        if pid >= 0 or not found.running:
            return pid
    return -1


def await_end(pid: int, status: int) -> int:
    """The exit code of a child (128 + n for signal n). It is killed when nobody reads the status pipe any more."""
    child = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.register(status, 0)
    for ready, _ in poll.poll():
        if ready == status:
            signal.pidfd_send_signal(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def execute(job: Job) -> int:
    """Becomes the command; runs inside the container, so nothing may be imported from here on. The result is its exit code."""
    if "await" in job:
        told, tell = job["await"]
        os.close(tell)
        if not os.read(told, 1):
            return LOST
    os.umask(0o022)
    try:
        os.setsid()
        if job["tty"]:
            fcntl.ioctl(0, TIOCSCTTY, 0)
    except OSError:
        pass
    try:
        os.chdir(job["cwd"])
    except OSError:
        os.chdir("/")
    if not os.read(job["go"], 1):
        return LOST
    return become(job["command"], job["environment"])


def become(command: list[str], environment: dict[str, str]) -> int:
    """As execvp, with the PATH of the environment; returns only on failure."""
    word = command[0]
    folders = [""] if "/" in word else [f"{folder}/" for folder in environment.get("PATH", "").split(":")]
    code = NOT_FOUND
    for folder in folders:
        try:
            os.execve(folder + word, command, environment)
        except OSError as error:
            if error.errno == 8:  # ENOEXEC: a script without an interpreter line
                try:
                    os.execve("/bin/sh", ["/bin/sh", folder + word, *command[1:]], environment)
                except OSError:
                    code = NOT_EXECUTABLE
            elif error.errno not in (2, 20):  # ENOENT, ENOTDIR
                code = NOT_EXECUTABLE
        except ValueError:
            return NOT_EXECUTABLE
    return code


def query(job: Job, fds: list[int]) -> int:
    """State and init pid of containers, by liblxc's own means: lines `name state pid`."""
    for name in job["names"]:
        signal.alarm(PATIENCE)  # the end of this process, if a monitor does not answer
        found = _lxc.Container(name, job["path"])
        say(fds[0], f"{name} {found.state} {found.init_pid}")
    return 0


JOBS: dict[str, Callable[[Job, list[int]], int]] = {"start": start, "attach": attach, "query": query}


def run(job: Job, fds: list[int], handled: list[int]) -> None:
    """The child of one job. It keeps no descriptor but those of the job."""
    plain_signals(handled)
    low = 3
    for kept in sorted(fds):
        os.closerange(low, kept)
        low = kept + 1
    os.closerange(low, 65536)
    code = LOST
    try:
        code = JOBS[job["job"]](job, fds)
    except BaseException as error:
        say(fds[0], f"error {type(error).__name__}: {error}")
    os._exit(code)


def be_ordinary() -> None:
    """What the service is given for itself must not be handed on to every container."""
    os.chdir("/")
    os.umask(0o022)
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            if int(file.read()) < 0:
                file.seek(0)
                file.write("0")
    except OSError:
        pass


def signals_with_handlers() -> list[int]:
    """Those that this process ignores or handles."""
    found = []
    for number in range(1, signal.NSIG):
        try:
            if signal.getsignal(number) not in (None, signal.SIG_DFL):
                found.append(number)
        except (OSError, ValueError):
            continue
    return found


def plain_signals(handled: list[int]) -> None:
    """What is ignored here would be ignored by an init or a command as well, and a shell could not even trap it.

    `handled` was found before the fork: each page that a child touches is one that its monitor no longer shares.
    """
    for number in handled:
        try:  # noqa: SIM105
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def receive(channel: Any) -> tuple[bytes, list[int]]:
    """The next job as bytes, with its descriptors. Raises EOFError."""
    space = socket.CMSG_SPACE(MOST_FDS * FD_BYTES)
    data, ancillary, _, _ = channel.recvmsg(4, space, CMSG_CLOEXEC)
    fds = [
        int.from_bytes(raw[at : at + FD_BYTES], sys.byteorder)
        for level, kind, raw in ancillary
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for at in range(0, len(raw) - len(raw) % FD_BYTES, FD_BYTES)
    ]
    length = int.from_bytes(data + exactly(channel, 4 - len(data)), "big")
    return exactly(channel, length), fds


def exactly(channel: Any, length: int) -> bytes:
    parts = []
    while length > 0:
        part = channel.recv(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def main() -> None:
    global _lxc, _ctypes
    channel = socket.socket(fileno=int(sys.argv[1]))
    sys.path.insert(0, sys.argv[2])
    import _lxc as binding  # type: ignore[import-not-found]

    _lxc = binding
    try:
        import _ctypes as foreign

        _ctypes = foreign
    except ImportError:
        pass
    sys.path.clear()
    sys.meta_path.clear()
    os.environ.clear()
    os.environ["PATH"] = SAFE_PATH
    be_ordinary()
    signal.signal(signal.SIGCHLD, reap)
    handled = signals_with_handlers()
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        try:
            data, fds = receive(channel)
        except (EOFError, ConnectionError):
            return
        job = marshal.loads(data)
        if os.fork() == 0:
            channel.close()
            run(job, fds, handled)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main()
