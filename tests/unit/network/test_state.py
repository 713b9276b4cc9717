"""What the state of an interface says that only sysfs knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.network import state

FILES = {
    "mode": "active-backup 1",
    "xmit_hash_policy": "layer2 0",
    "updelay": "100",
    "downdelay": "200",
    "miimon": "50",
    "mii_status": "up",
    "slaves": "eth1 eth2",
}


def test_a_bond_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bond0" / "bonding"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(state, "SYS", tmp_path)
    assert state._bond("bond0") == {
        "mode": "active-backup",
        "transmit_policy": "layer2",
        "up_delay": 100,
        "down_delay": 200,
        "mii_frequency": 50,
        "mii_state": "up",
        "lower_devices": ["eth1", "eth2"],
    }
    assert state._bond("eth0") is None
