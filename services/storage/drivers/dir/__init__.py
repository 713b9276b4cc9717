"""dir: volumes are plain folders, copies are copies. It works everywhere and limits nothing."""

from services.storage.drivers.dir.apply import DirDriver

__all__ = ["DirDriver"]
