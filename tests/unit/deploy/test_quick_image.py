"""Which packages the image of the short play is made of."""

from __future__ import annotations

from tools.play import quick_image

STATUS = """\
base-files\tyes\t,\t
dash\tyes\tlibc6 (>= 2.36),\t
libc6\tno\t,libgcc-s1\tlibc
libgcc-s1\tno\t,\t
python3-minimal\tno\tpython3.11-minimal (>= 3.11.2-1~),\t
python3.11-minimal\tno\tlibc6, awk | nothing\t
mawk\tno\t,libc\tawk
unrelated\tno\t,\t
"""


def test_what_is_named_or_essential_comes_with_what_it_needs() -> None:
    found = quick_image.closure(["python3-minimal"], STATUS)
    assert found == {"base-files", "dash", "libc6", "libgcc-s1", "python3-minimal", "python3.11-minimal", "mawk"}


def test_what_is_not_installed_is_passed_over() -> None:
    assert "kmod" not in quick_image.closure(["kmod"], STATUS)


def test_every_part_has_its_line() -> None:
    assert {"dnsmasq-base", "python3-lxc", "btrfs-progs", "python3-minimal"} <= quick_image.wanted()
