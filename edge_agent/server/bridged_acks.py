"""Acknowledgements to one agent that wait until the bridging upstream has what they are about.

`Answers` settles what is durable here, in order. Where an upstream bridges (`edge_agent.bridge`),
what it has settled is held here, in the same order, each with the seqs that it was stored under,
and told when the upstream has come to these. The teller tells it, as everything else: no task
waits, and only the oldest of each session is known to the bridge.

The source's claim does not wait for this: what is durable here is settled, whether or not its
sender is told (`source_claims`). Nor does a goodbye wait longer than its deadline; what is not told
by then is asked for at the next hello, which waits in its turn.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import trio

from edge_agent.bridge import Marks, UpstreamBridge
from edge_agent.server.acks import Teller

#: As many are held one by one, then the newest grow together: a window of small commits would
#: otherwise be kept as thousands.
HELD_MAX = 64


class BridgedPeer(Protocol):
    """The side that knows what to say; as `AckWriter`."""

    @property
    def can_be_told(self) -> bool:
        """False while the socket does not take what was told before."""
        ...

    def tell_now(self, upto: int) -> None:
        """Say that everything up to there is taken. Does not wait."""
        ...

    def fail(self, error: Exception) -> None:
        """`tell_now` raised, which nobody expected: end this connection with it."""
        ...


class BridgedAcks:
    """One session's; ``acked`` is the number that ``peer`` was told last."""

    __slots__ = (
        "_acked",
        "_bridge",
        "_held",
        "_is_called",
        "_is_due",
        "_last",
        "_peer",
        "_teller",
        "_told",
    )

    def __init__(
        self, bridge: UpstreamBridge, teller: Teller, peer: BridgedPeer, acked: int
    ) -> None:
        self._bridge, self._teller = bridge, teller
        self._peer: BridgedPeer | None = peer
        self._held: deque[tuple[Marks, int]] = deque()
        self._acked = self._last = acked
        self._is_called = self._is_due = False
        self._told: trio.Event | None = None

    def hold(self, upto: int, marks: Marks) -> None:
        """Everything up to there, as the session counts, is durable here; to be told when the
        upstream has come to ``marks``.
        """
        if len(self._held) >= HELD_MAX:
            # Marks only grow, so the newer ones are the greater ones.
            marks = {**self._held.pop()[0], **marks}
        self._held.append((marks, upto))
        self._bridge.records += upto - self._last
        self._last = upto
        if len(self._held) == 1:
            self._tell_passed()

    def due(self) -> None:
        """Something may be told now; also when the socket takes more again."""
        if not self._is_due and self._held and self._peer is not None:
            self._is_due = True
            self._teller.add(self)

    def come(self) -> None:
        """The bridge's: the upstream has come on."""
        self._is_called = False
        self.due()

    def settle(self) -> None:
        """Tell what the upstream has; the teller's call, and a mistake in it ends this one only."""
        self._is_due = False
        peer = self._peer
        try:
            self._tell_passed()
        except Exception as error:  # noqa: BLE001 - a mistake is what nobody foresaw
            self.close()
            if peer is not None:
                peer.fail(error)

    async def told(self) -> None:
        """Wait until nothing is held; the caller has a deadline."""
        while self._held:
            if self._told is None:
                self._told = trio.Event()
            await self._told.wait()

    def close(self) -> None:
        """The connection is over: what is held is told to nobody."""
        self._peer = None
        self._bridge.records -= self._last - self._acked
        self._acked = self._last
        self._held.clear()
        self._wake()

    def _tell_passed(self) -> None:
        if self._peer is None or not self._peer.can_be_told:
            return  # Told again when the socket takes more.
        passed: int | None = None
        lacking: tuple[str, int] | None = None
        while self._held and (lacking := self._bridge.lacks(self._held[0][0])) is None:
            passed = self._held.popleft()[1]
        if lacking is not None and not self._is_called:
            self._is_called = True
            self._bridge.call(*lacking, self)
        if passed is not None:
            self._bridge.records -= passed - self._acked
            self._acked = passed
            self._peer.tell_now(passed)
        if not self._held:
            self._wake()

    def _wake(self) -> None:
        if self._told is not None:
            self._told.set()
            self._told = None
