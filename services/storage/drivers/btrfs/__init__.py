"""btrfs: volumes are subvolumes, copies and snapshots take no time, qgroups limit and measure."""

from services.storage.drivers.btrfs.apply import BtrfsDriver

__all__ = ["BtrfsDriver"]
