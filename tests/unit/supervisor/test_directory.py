"""The server's directory: modes, one supervisor at a time, logs that do not grow without end, a certificate made once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from supervisor import directory, identity


def test_folders_with_secrets_are_closed_to_others(tmp_path: Path) -> None:
    directory.prepare(tmp_path / "d")
    directory.prepare(tmp_path / "d")
    for name in ("run", "log", "nats"):
        assert stat.S_IMODE((tmp_path / "d" / name).stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o711


def test_a_directory_has_one_supervisor(tmp_path: Path) -> None:
    directory.prepare(tmp_path)
    lock = directory.hold(tmp_path)
    with pytest.raises(directory.Taken, match=f"already running in {tmp_path} .pid {os.getpid()}."):
        directory.hold(tmp_path)
    os.close(lock)
    os.close(directory.hold(tmp_path))


def test_the_socket_replaces_one_that_a_killed_server_left(tmp_path: Path) -> None:
    directory.listen(tmp_path, None).close()
    with directory.listen(tmp_path, None):
        assert stat.S_IMODE((tmp_path / "unix.socket").stat().st_mode) == 0o660


def test_a_long_log_is_moved_aside_under_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "LOG_LIMIT", 10)
    (tmp_path / "log").mkdir()
    with (tmp_path / "log" / "x.log").open("a") as writer:
        writer.write("a long line\n")
        writer.flush()
        directory.trim_logs(tmp_path)
        writer.write("next\n")
    assert (tmp_path / "log" / "x.log").read_text() == "next\n"
    assert (tmp_path / "log" / "x.log.1").read_text() == "a long line\n"


def test_the_certificate_is_made_once_and_fits_its_key(tmp_path: Path) -> None:
    identity.ensure(tmp_path)
    first = (tmp_path / "server.crt").read_bytes()
    identity.ensure(tmp_path)
    assert (tmp_path / "server.crt").read_bytes() == first
    certificate = x509.load_pem_x509_certificate(first)
    key = serialization.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    assert certificate.public_key() == key.public_key()
    assert stat.S_IMODE((tmp_path / "server.key").stat().st_mode) == 0o640
