"""The `Inbox` gives what was read to a pump, by taking or pushing, and says when to read on.

`take` hands out what has gathered. After `divert`, messages are pushed as they are read: without
a task switch, a channel or a copy, on the way that has to be fast. Either way a pump that cannot
take more pauses the reading, and `resume` lets it go on.

Messages come from two sides, lifted by the frame lane or given out by trio-websocket (`passed`
counts those), and the transport keeps their order with `wait_got`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

#: What may wait for a pump that takes: one message of any size, or this much.
INBOX_BYTES = 64 * 1024
INBOX_MESSAGES = 1024
#: Messages given out by the library that are gathered to one list.
PASSED_MAX = 32

Push = Callable[[list[str | bytes]], bool]
"""Takes messages as they are read; False where nothing more should be read until `resume`."""


class Inbox:
    """One connection's. ``fail`` is told of what a push raised: reading serves others too."""

    __slots__ = (
        "_bytes", "_fail", "_gathered", "_got", "_is_over", "_messages", "_news", "_passed",
        "_push", "_room",
    )  # fmt: skip

    def __init__(self, fail: Callable[[Exception], None]) -> None:
        self._fail = fail
        self._push: Push | None = None
        self._messages: list[str | bytes] = []
        self._bytes = 0
        self._passed = 0
        self._gathered: list[str | bytes] = []
        self._is_over = False
        # Made only by who waits, so that a connection at rest is small.
        self._news: trio.Event | None = None
        self._room: trio.Event | None = None  # there while reading is paused
        self._got: trio.Event | None = None

    @property
    def is_paused(self) -> bool:
        """Whether nothing more should be read at present."""
        return self._room is not None

    # The pump's side.

    async def take(self) -> list[str | bytes]:
        """All messages that have gathered, at least one; ``[]`` once it is over."""
        if self._messages or self._is_over:
            await trio.lowlevel.checkpoint()
        else:
            self._news = trio.Event()
            await self._news.wait()
            self._news = None
        messages, self._messages, self._bytes = self._messages, [], 0
        self.resume()
        return messages

    def divert(self, push: Push, taken: Sequence[str | bytes] = ()) -> None:
        """From now on messages are pushed as they are read; first those of ``taken``, which are
        given back, and those that wait already.
        """
        self._push = None if self._is_over else push
        messages, self._messages, self._bytes = [*taken, *self._messages], [], 0
        self.resume()
        if messages:
            self._hand_over(push, messages)

    def resume(self) -> None:
        """There is room again for more messages."""
        if self._room is not None:
            self._room.set()
            self._room = None

    def end(self, *, throw_away: bool) -> None:
        """Nothing more is taken in, or pushed; what waits is still handed out, or thrown away."""
        self._is_over = True
        self._push = None
        if throw_away:
            self._messages = []
        if self._news is not None:
            self._news.set()
        if self._got is not None:
            self._got.set()
        self.resume()

    # The reading side.

    def deliver(self, messages: list[str | bytes]) -> bool:
        """Take in what was read; False where nothing more should be read until `wait_room`."""
        if self._is_over:
            return True
        if self._push is not None:
            self._hand_over(self._push, messages)
        else:
            self._messages += messages
            self._bytes += sum(map(len, messages))
            if self._news is not None:
                self._news.set()
            if self._bytes >= INBOX_BYTES or len(self._messages) >= INBOX_MESSAGES:
                self._pause()
        return self._room is None

    async def wait_room(self) -> None:
        """Until more may be delivered, or until it does not matter any more."""
        while self._room is not None:
            await self._room.wait()

    @property
    def heard(self) -> int:
        """How many messages the library has given out."""
        return self._passed + len(self._gathered)

    async def deliver_passed(self, message: str | bytes, *, more: bool = False) -> None:
        """One that the library has given out; waits for room for the next. Where ``more`` come
        soon they become one list, as each list costs as much as ten small messages.
        """
        self._gathered.append(message)
        if not more or self._got is not None or len(self._gathered) >= PASSED_MAX:
            self.flush_passed()
        await self.wait_room()

    def flush_passed(self) -> None:
        """Take in what `deliver_passed` has gathered."""
        if self._gathered:
            messages, self._gathered = self._gathered, []
            self._passed += len(messages)
            self.deliver(messages)
        if self._got is not None:
            self._got.set()

    def has_got(self, passed: int) -> bool:
        """Whether the library has given out as many messages in all."""
        return self._passed >= passed

    def takes_after(self, passed: int) -> bool:
        """Whether it has, and there is room for what was lifted behind them."""
        return self._passed >= passed and self._room is None

    async def wait_got(self, passed: int) -> None:
        """Until it has, or until it does not matter any more."""
        self.flush_passed()
        while self._passed < passed and not self._is_over:
            self._got = trio.Event()
            await self._got.wait()
        self._got = None

    def _pause(self) -> None:
        if self._room is None:
            self._room = trio.Event()

    def _hand_over(self, push: Push, messages: list[str | bytes]) -> None:
        try:
            goes_on = push(messages)
        except Exception as error:  # noqa: BLE001 - whoever reads serves other connections too
            self._fail(error)
            return
        if not goes_on and not self._is_over:
            self._pause()
