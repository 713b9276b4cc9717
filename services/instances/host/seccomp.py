"""The seccomp policy of a container, as liblxc reads it, from security.syscalls.*. Pure. The rules and their defaults are LXD's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from services.instances.host.idmap import TRUE
from services.instances.host.interception import rules

PREFIX = "security.syscalls."
LISTS = (
    "allow",
    "deny",
    "deny_default",
    "deny_compat",
    "whitelist",
    "blacklist",
    "blacklist_default",
    "blacklist_compat",
)
FALSE = ("false", "0", "no", "off")
DEFAULT = """\
[all]
reject_force_umount  # comment this to allow umount -f;  not recommended
[all]
kexec_load errno 38
open_by_handle_at errno 38
init_module errno 38
finit_module errno 38
delete_module errno 38
"""
# The compatibility calls that make no sense on x86_64 but through a foreign ABI
COMPAT_ARCHITECTURES = {"x86_64": "x86_64"}
COMPAT = """\
[%s]
compat_sys_rt_sigaction errno 38
stub_x32_rt_sigreturn errno 38
compat_sys_ioctl errno 38
compat_sys_readv errno 38
compat_sys_writev errno 38
compat_sys_recvfrom errno 38
compat_sys_sendmsg errno 38
compat_sys_recvmsg errno 38
stub_x32_execve errno 38
compat_sys_ptrace errno 38
compat_sys_rt_sigpending errno 38
compat_sys_rt_sigtimedwait errno 38
compat_sys_rt_sigqueueinfo errno 38
compat_sys_sigaltstack errno 38
compat_sys_timer_create errno 38
compat_sys_mq_notify errno 38
compat_sys_kexec_load errno 38
compat_sys_waitid errno 38
compat_sys_set_robust_list errno 38
compat_sys_get_robust_list errno 38
compat_sys_vmsplice errno 38
compat_sys_move_pages errno 38
compat_sys_preadv64 errno 38
compat_sys_pwritev64 errno 38
compat_sys_rt_tgsigqueueinfo errno 38
compat_sys_recvmmsg errno 38
compat_sys_sendmmsg errno 38
compat_sys_process_vm_readv errno 38
compat_sys_process_vm_writev errno 38
compat_sys_setsockopt errno 38
compat_sys_getsockopt errno 38
compat_sys_io_setup errno 38
compat_sys_io_submit errno 38
stub_x32_execveat errno 38
"""


def policy(config: Mapping[str, str], architecture: str = "x86_64") -> str | None:
    """The text of the policy; None when nothing is to be filtered. Raises ValueError for keys that exclude each other."""
    whole = config.get("raw.seccomp", "")
    if whole:
        if _is_set(config, *LISTS):
            raise ValueError("raw.seccomp is mutually exclusive with security.syscalls*")
        return whole.rstrip("\n") + "\n"
    allow, deny = _either(config, "allow", "whitelist"), _either(config, "deny", "blacklist")
    default = _either(config, "deny_default", "blacklist_default").lower() not in FALSE
    compat = _either(config, "deny_compat", "blacklist_compat").lower() in TRUE
    _refuse_notify(allow, deny)
    held_up = "".join(f"{line}\n" for line in rules.lines(config))
    if allow:
        if deny or compat or _is_set(config, "deny_default", "blacklist_default"):
            raise ValueError("security.syscalls.allow is mutually exclusive with security.syscalls.deny*")
        return f"2\nallowlist\n[all]\n{allow.rstrip()}\n{held_up}"
    if not (deny or default or compat or held_up):
        return None
    held_up = held_up and f"[all]\n{held_up}"
    return "2\ndenylist\n" + held_up + "".join(_denied(deny, default, compat, architecture))


def _refuse_notify(*lists: str) -> None:
    """What the host is asked to do for an instance is said by security.syscalls.intercept.*, which a project can forbid."""
    for line in "\n".join(lists).splitlines():
        if "notify" in line.split()[1:]:
            raise ValueError(f'Invalid line {line.strip()!r} of system calls: the action "notify" is not for lists')


def _denied(deny: str, default: bool, compat: bool, architecture: str) -> Iterator[str]:
    if default:
        yield DEFAULT
    if compat and architecture in COMPAT_ARCHITECTURES:
        yield COMPAT % COMPAT_ARCHITECTURES[architecture]
    if deny:
        # a section of its own: the lines must not end up in that of one architecture
        yield f"[all]\n{deny.rstrip()}\n"


def _is_set(config: Mapping[str, str], *names: str) -> bool:
    return any(config.get(PREFIX + name) for name in names)


def _either(config: Mapping[str, str], new: str, old: str) -> str:
    """The value under the newer or the older name. Raises ValueError when both are set."""
    newer, older = config.get(PREFIX + new, ""), config.get(PREFIX + old, "")
    if newer and older:
        raise ValueError(f"Mutually exclusive keys: {PREFIX}{new} and {PREFIX}{old}")
    return newer or older
