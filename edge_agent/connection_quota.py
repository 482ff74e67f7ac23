"""Who may be connected at one time: quotas for peers that have proved nothing, and for known ones.

From accept on, until its request was read and judged, a connection is *unproved*: it is in
`UnprovedQuota`, which it shares with its like alone. It never keeps a newcomer out: where there is
no place left, the connection that has waited longest is closed. Example, with 100 places and 50
for one address: somebody at 192.0.2.7 opens 200 sockets and says nothing on them. The first 50
wait; each of the next closes the oldest of these 50. Everybody else has the other 50 places.

Once it has proved who it is, a connection moves to `ProvedQuota`. Where that is full, whoever has
fewer connections than another identity still gets in, and that other loses its newest one. Example,
with 200 places: ``greenhouse`` holds all 200; the first connection of ``hub`` gets in and
``greenhouse`` keeps 199; another one of ``greenhouse`` is refused. What merely waits for its peer
(`Place`) gives way before that, to its own identity too.

Both are pure: they call ``close``, which must not wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Place:
    """One connection's place: ``key`` is its address or identity.

    ``close`` is called once, if the place is needed for another. ``is_idle`` says whether it does
    nothing but wait for its peer, so that it is the first to be closed.
    """

    key: str
    close: Callable[[], None]
    is_idle: Callable[[], bool]


class _Quota:
    def __init__(self, most: int) -> None:
        self.most = most
        self._places: dict[Place, None] = {}  # the oldest first
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._places)

    def leave(self, place: Place) -> None:
        """The connection has ended, or moves on. Idempotent."""
        if place in self._places:
            del self._places[place]
            self._held[place.key] -= 1
            if not self._held[place.key]:
                del self._held[place.key]

    def _add(self, place: Place) -> Place:
        self._places[place] = None
        self._held[place.key] += 1
        return place

    def _close(self, place: Place) -> None:
        self.leave(place)
        place.close()

    def _heaviest(self) -> str:
        """The key with most connections; of several, the one that came first."""
        return max(self._held, key=lambda key: self._held[key])


class UnprovedQuota(_Quota):
    """Places for connections that have proved nothing; see the module.

    Args:
        most: in all.
        per_address: of these, for one address.
    """

    def __init__(self, most: int, per_address: int) -> None:
        super().__init__(most)
        self._per_address = per_address

    def enter(self, address: str, close: Callable[[], None]) -> Place:
        """A place, always; another connection may be closed for it."""
        if self._held[address] >= self._per_address:
            self._close_oldest(address)
        elif len(self._places) >= self.most:
            self._close_oldest(self._heaviest())
        return self._add(Place(address, close, lambda: True))

    def _close_oldest(self, address: str) -> None:
        self._close(next(place for place in self._places if place.key == address))


class ProvedQuota(_Quota):
    """Places for connections whose identity is known; see the module."""

    def enter(
        self,
        identity: str,
        close: Callable[[], None],
        is_idle: Callable[[], bool] = lambda: False,
    ) -> Place | None:
        """A place, or None where all are taken and nobody has more than ``identity``."""
        if len(self._places) >= self.most:
            outgoing = self._idle(identity) or self._newest_of_heaviest(identity)
            if outgoing is None:
                return None
            self._close(outgoing)
        return self._add(Place(identity, close, is_idle))

    def _idle(self, identity: str) -> Place | None:
        held = self._held
        return next(
            (p for p in self._places if held[p.key] >= held[identity] and p.is_idle()), None
        )

    def _newest_of_heaviest(self, identity: str) -> Place | None:
        heaviest = self._heaviest()
        if self._held[heaviest] <= self._held[identity] + 1:
            return None
        return next(place for place in reversed(self._places) if place.key == heaviest)
