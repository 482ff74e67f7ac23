"""Quotas of connections: for peers that have proved nothing, and for known ones.

Before anything is spent on a connection, `Arrivals` says whether it is heard at all: of one address
so many, and then so many a second, of those that prove nothing.

From then on, until its request was read and judged, a connection is *unproved*: it is in
`UnprovedQuota`, which it shares with its like alone. It never keeps a newcomer out: where there is
no place left, the connection that has waited longest is closed. Example, with 100 places and 30
for one address: somebody at 192.0.2.7 opens 200 sockets and says nothing on them. The first 50,
half of all places, may be a fleet behind one address and wait; each of the next closes the oldest
of these 50. Everybody else has the other 50 places. More than 30 it gets only while its oldest is
younger than `YOUNG_S`.
Where all 100 are taken by those who came a moment ago (`YOUNG_S`), the next wait in the kernel's
queue: of a fleet that comes back at once, each would end another's handshake in the middle.

Once it has proved who it is, a connection moves to `ProvedQuota`. Where that is full, whoever has
fewer connections than another identity still gets in, and that other loses its newest one. Example,
with 200 places: ``greenhouse`` holds all 200; the first connection of ``hub`` gets in and
``greenhouse`` keeps 199; another one of ``greenhouse`` is refused. What merely waits for its peer
(`Place`) gives way before that, to its own identity too.

All are pure: they call ``close``, which must not wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds that a handshake may take before it counts as waiting.
YOUNG_S = 1.0


@dataclass(slots=True, eq=False)
class Place:
    """One connection's place: ``key`` is its address or identity.

    ``close`` is called once, if the place is needed for another. ``is_idle`` says whether it does
    nothing but wait for its peer, so that it is the first to be closed. ``since``: when it came.
    """

    key: str
    close: Callable[[], None]
    is_idle: Callable[[], bool]
    since: float = 0.0


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
        now: seconds, monotonic.
    """

    def __init__(self, most: int, per_address: int, now: Callable[[], float]) -> None:
        super().__init__(most)
        self._per_address, self._now = per_address, now
        self._young_per_address = max(per_address, most // 2)

    def has_room(self) -> bool:
        """Whether a newcomer displaces nobody who came a moment ago."""
        if len(self._places) < self.most:
            return True
        return not self._is_young(self._heaviest())

    def enter(self, address: str, close: Callable[[], None]) -> Place:
        """A place, always; another connection may be closed for it."""
        if self._is_over(address):
            self._close_oldest(address)
        elif len(self._places) >= self.most:
            self._close_oldest(self._heaviest())
        return self._add(Place(address, close, lambda: True, self._now()))

    def _is_over(self, address: str) -> bool:
        held = self._held[address]
        return held >= self._young_per_address or (
            held >= self._per_address and not self._is_young(address)
        )

    def _is_young(self, address: str) -> bool:
        return self._now() - self._oldest(address).since < YOUNG_S

    def _close_oldest(self, address: str) -> None:
        self._close(self._oldest(address))

    def _oldest(self, address: str) -> Place:
        return next(place for place in self._places if place.key == address)


class Arrivals:
    """How many newcomers of one address are heard: a bucket for each, see the module.

    ``per_second`` are heard for ever, and `BURST_S` times as many at first: a fleet behind one
    address comes back at once after an outage. Who proves something takes nothing from the bucket.
    At this pace each has a second among `UnprovedQuota`'s places, whoever else comes.

    Args:
        per_second: of one address.
        now: seconds, monotonic.
    """

    BURST_S = 8
    #: Addresses that are remembered. Those whose bucket is fullest are forgotten then.
    REMEMBERED_MAX = 1024

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self.per_second = per_second
        self._most = float(per_second * self.BURST_S)
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}  # address: level, at which time

    def __len__(self) -> int:
        return len(self._buckets)

    def hear(self, address: str) -> bool:
        """Whether one more of ``address`` is heard."""
        now = self._now()
        level = self._level(address, now)
        if level < 1:
            return False
        if address not in self._buckets and len(self._buckets) >= self.REMEMBERED_MAX:
            self._forget(now)
        self._buckets[address] = (level - 1, now)
        return True

    def give_back(self, address: str) -> None:
        """One that was heard has proved who it is."""
        now = self._now()
        level = self._level(address, now) + 1
        if level >= self._most:
            self._buckets.pop(address, None)
        else:
            self._buckets[address] = (level, now)

    def _level(self, address: str, now: float) -> float:
        level, since = self._buckets.get(address, (self._most, now))
        return min(self._most, level + (now - since) * self.per_second)

    def _forget(self, now: float) -> None:
        fullest = sorted(self._buckets, key=lambda one: self._level(one, now), reverse=True)
        for address in fullest[: self.REMEMBERED_MAX // 4]:
            del self._buckets[address]


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
