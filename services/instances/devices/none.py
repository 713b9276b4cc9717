"""Type none: a device of the same name in a profile does not exist for this instance."""

from __future__ import annotations

from services.instances.devices.device import Inert, Texts


class NoDevice(Inert):
    name = "none"

    def check(self, device: str, config: Texts) -> None:
        for key in config:
            if key != "type":
                raise ValueError(f'Invalid device option "{key}"')
