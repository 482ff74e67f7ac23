"""A clock that stands until it is turned."""

from __future__ import annotations

from msgspec.structs import replace

from edge_agent.system.clock import Reading


class ManualClock:
    """A clock that stands until it is turned; for tests and simulations."""

    def __init__(
        self, wall_ns: int = 1_795_341_600_000_000_000, *, synced: bool = True, boot: int = 1
    ) -> None:
        self._now = Reading(wall_ns, 1_000_000_000, boot.to_bytes(16, "big"), synced)

    def read(self) -> Reading:
        """All clocks as they were last set."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on the wall and the boot clock."""
        step = round(seconds * 1e9)
        self._now = replace(
            self._now, wall_ns=self._now.wall_ns + step, boot_ns=self._now.boot_ns + step
        )

    def step_wall(self, wall_ns: int, *, synced: bool | None = None) -> None:
        """Set the wall clock, as NTP or a person does; the boot clock stays."""
        is_synced = self._now.synced if synced is None else synced
        self._now = replace(self._now, wall_ns=wall_ns, synced=is_synced)

    def reboot(self, *, wall_ns: int, synced: bool = False) -> None:
        """A new boot: new id, boot clock at one second, the wall clock wherever it woke."""
        boot = int.from_bytes(self._now.boot_id, "big") + 1
        self._now = Reading(wall_ns, 1_000_000_000, boot.to_bytes(16, "big"), synced)
