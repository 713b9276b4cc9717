"""The units of deploy/systemd under a real systemd: `python -m tools.boot` as a test."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tools.play.claims import Claims

TOOLS = ("nsenter", "lxc", "systemctl")


@pytest.mark.timeout(1200)
def test_the_units_start_leave_restart_and_end_the_server_as_they_say() -> None:
    if os.geteuid() != 0:
        pytest.skip("booting a copy of the machine needs root")
    pytest.importorskip("lxc", reason="liblxc's binding is not installed")
    from tools import boot

    if missing := [str(tool) for tool in (*TOOLS, boot.SYSTEMD) if not shutil.which(tool)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    claims = Claims()
    with boot.machine() as host:
        try:
            host.open()
            host.boot()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"systemd cannot be booted here: {error}")
        boot.check(claims, host)
    assert claims.told > 0
    assert claims.broken == []
