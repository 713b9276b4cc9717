"""Where backups lie: what is left of folders when they move, are renamed and go."""

from __future__ import annotations

from pathlib import Path

from services.storage.backup_files import BackupFiles
from services.storage.drivers import VolumeName

V1, V2 = VolumeName("custom", "default", "v1"), VolumeName("custom", "default", "v2")


def made(directory: Path) -> BackupFiles:
    """One backup of one volume."""
    files = BackupFiles(directory)
    files.sweep(())
    work = files.work("p1", V1, "b")
    work.write_text("an archive")
    work.rename(files.path("p1", V1, "b"))
    return files


def there(files: BackupFiles) -> list[str]:
    return sorted(str(path.relative_to(files.folder)) for path in files.folder.rglob("*"))


def test_a_backup_follows_its_volume_and_leaves_no_folder(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.move("p1", V1, "p2", V2)
    files.move("p1", V1, "p2", V2)
    assert there(files) == ["p2", "p2/default_v2", "p2/default_v2/b"]
    assert files.path("p2", V2, "b").read_text() == "an archive"


def test_the_last_backup_takes_the_folders_along(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.rename("p1", V1, "b", "c")
    assert there(files) == ["p1", "p1/default_v1", "p1/default_v1/c"]
    files.forget("p1", V1, "c")
    files.forget("p1", V1, "c")
    assert there(files) == []


def test_a_start_sweeps_what_was_half_made_and_uploads_that_nobody_waits_for(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.work("p1", V1, "half").touch()
    for token in ("wanted", "lost"):
        (files.arriving / token).touch()
    files.sweep(["wanted"])
    assert there(files) == ["p1", "p1/default_v1", "p1/default_v1/b"]
    assert [path.name for path in files.arriving.iterdir()] == ["wanted"]
