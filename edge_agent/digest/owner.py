"""The owner of a history file: the store that it digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.errors import StoreDamaged, StoreSealed
from edge_agent.history import HistoryHeader
from edge_agent.seal import OPEN, KeyRing


def _of_nobody_else(_: HistoryHeader) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class HistoryOwner:
    """The store whose history a file is to be.

    ``seals`` seal and open what is in it. ``all_logged``: the logs still hold every record that
    they ever had, so that beginning anew loses nothing. ``inherits``: whether the history of
    another store's id is taken over.
    """

    store_id: str
    epoch: str
    seals: KeyRing = OPEN
    all_logged: bool = False
    inherits: Callable[[HistoryHeader], bool] = _of_nobody_else

    def check(self, header: HistoryHeader) -> None:
        """Raises StoreDamaged for another store's file, StoreSealed where a key is missing."""
        if header.store_id != self.store_id and not self.inherits(header):
            raise StoreDamaged("it belongs to another store")
        if lacking := self.seals.lacks(header.seals):
            raise StoreSealed(f"history: {lacking}")
