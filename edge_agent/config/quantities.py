"""Numbers of a configuration that are written with a unit: durations, sizes and shares."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB


class Duration(float):
    """Seconds. Written with a unit: ``"250ms"``, ``"1s"``, ``"10m"``, ``"12h"``, ``"30d"``."""


class Size(int):
    """Bytes. Written with a unit: ``"64KiB"``, ``"256MiB"``, ``"1GiB"``, ``"500MB"``."""


class Share(float):
    """A part of the store, 0 to 1. Written ``"70%"``."""
