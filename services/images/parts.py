"""What the sagas and servicers of images work with."""

from __future__ import annotations

from dataclasses import dataclass

from services.images.files import Files
from services.images.shelf import Shelf


@dataclass
class Parts:
    files: Files
    shelf: Shelf
