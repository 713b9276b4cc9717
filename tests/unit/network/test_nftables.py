"""A machine whose nftables cannot be used is told why; one that could be used once is not asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.network import nftables
from services.network.host import Host


def test_a_kernel_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_commands: Any) -> Any:
        raise nftables.NftablesError("netlink: Error: Operation not permitted\nlist tables")

    monkeypatch.setattr(nftables, "run", refuse)
    said = nftables.lacks()
    assert "Operation not permitted" in said
    assert "NET_ADMIN" in said
    assert "\n" not in said


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables, "LIBRARY", "libnowhere.so.1")
    nftables.library.cache_clear()
    try:
        assert nftables.lacks() == f"libnowhere.so.1 is not installed: install {nftables.PACKAGE}"
    finally:
        nftables.library.cache_clear()


def test_what_was_seen_once_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["no", "", "no"]
    monkeypatch.setattr(nftables, "lacks", lambda: answers.pop(0))
    host = Host(tmp_path)
    assert [host.lacks_nftables() for _ in range(3)] == ["no", "", ""]
    assert answers == ["no"]
    host.thread.shutdown()
