"""The sender's side of a session, without I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge_agent.errors import ProtocolError
from edge_agent.session.control import (
    CLOSE_PROTOCOL,
    Ack,
    Hello,
    History,
    Mode,
    Nack,
    Stop,
    ToldLimits,
    Unknown,
    Welcome,
    Window,
    decode_from_agent,
    encode_control,
)
from edge_agent.session.states import CLIENT, ClientInput, ClientState, follow


@dataclass(frozen=True, slots=True)
class Resume:
    """What a welcome means for what the sender holds.

    Attributes:
        next: number of the next record to send.
        drop: how many of the held records, oldest first, are durable already.
        renumber: the held records (none dropped) get new numbers, from ``next`` on: the agent's
            numbering is not the one that they were numbered in.
        epoch: the store's; keep it with the buffer.
        epoch_changed: the agent has another store than the one that this sender knew.
        forked: what the agent has under these numbers is not of this sender's history (a copy).
        welcome: all that the agent said.
    """

    next: int
    drop: int
    renumber: bool
    epoch: str
    epoch_changed: bool
    welcome: Welcome
    forked: bool = False


class ClientSession:
    """One source's session, from hello to close; the buffer outlives it and is the caller's.

    Attributes:
        state: where it is.
        next: number of the next record to be sent; ``[acked, next)`` is in flight.
        acked: everything before it is durable.
        bytes_in_flight: bytes of messages sent and not yet wholly acked.
        window, limits: what the agent told, kept to by `may_send` and by the caller.
    """

    def __init__(self, mode: Mode) -> None:
        self.state = ClientState.NEW
        self.next = 0
        self.acked = 0
        self.bytes_in_flight = 0
        self.window = Window(0, 0)
        self.limits = ToldLimits()
        self._mode = mode
        self._said: Hello | None = None
        self._held = 0
        self._sizes: deque[tuple[int, int]] = deque()

    @property
    def records_in_flight(self) -> int:
        """Numbers sent and not yet acked."""
        return self.next - self.acked

    def hello(
        self,
        source: str,
        epoch: str | None = None,
        first: int | None = None,
        held: int = 0,
        history: History | None = None,
        resends: bool = False,
        moved: bool = False,
        bridged: bool = False,
    ) -> str | bytes:
        """What to send first.

        Args:
            source: who we are.
            epoch: of the store in whose numbering the held records are numbered.
            first: number of the oldest held record, or of the next one; None for a sender
                that numbers nothing before it is welcome.
            held: how many records are held, numbered from ``first`` on.
            history: which history they are of; None says nothing about it.
            resends: the agent may have some of it, and shall leave that out.
            moved: what is before ``first`` is not missing.
            bridged: what was acknowledged is with the agent's upstream.
        """
        self.state = follow(CLIENT, self.state, ClientInput.HELLO)
        self._said = Hello(source, epoch, first, history, resends, moved, bridged)
        self._held = held
        return encode_control(self._said, self._mode)

    def receive(self, data: str | bytes) -> Resume | Ack | Nack | Stop | Unknown:
        """One message of the agent; the session is up to date when this returns.

        Raises:
            ProtocolError: ``bad_control``, ``out_of_order``; close 1002, state unchanged.
        """
        message = decode_from_agent(data)
        if isinstance(message, Welcome):
            return self._welcome(message)
        if isinstance(message, Ack):
            return self._ack(message)
        if isinstance(message, Nack):
            return self._nack(message)
        if isinstance(message, Stop):
            self.state = follow(CLIENT, self.state, ClientInput.STOP)
        return message

    def may_send(self, records: int, size: int) -> bool:
        """Whether a message of ``records`` and ``size`` bytes fits the window. With nothing in
        flight one always does.
        """
        if self.state is not ClientState.OPEN:
            return False
        return not self.records_in_flight or (
            self.records_in_flight + records <= self.window.records
            and self.bytes_in_flight + size <= self.window.bytes
        )

    def sent(self, records: int, size: int) -> int:
        """A message of ``records`` is about to be sent: the number of its first."""
        self.state = follow(CLIENT, self.state, ClientInput.DATA)
        first = self.next
        if records:
            self.next += records
            self.bytes_in_flight += size
            self._sizes.append((self.next, size))
        return first

    def close(self) -> None:
        """The connection has ended; what is in flight stays the caller's to send again."""
        self.state = follow(CLIENT, self.state, ClientInput.CLOSE)

    def _welcome(self, message: Welcome) -> Resume:
        self.state = follow(CLIENT, self.state, ClientInput.WELCOME)
        said = self._said
        assert said is not None, "the table lets no welcome come before hello"
        self.next = self.acked = message.next
        self.window, self.limits = message.window, message.limits
        drop, renumber, forked = 0, True, message.forked
        if said.first is not None:
            is_within = said.first <= message.next <= said.first + self._held
            if said.epoch == message.epoch and is_within and not forked:
                drop, renumber = message.next - said.first, False
            elif message.next == said.first and not forked:
                renumber = False
        return Resume(
            next=message.next,
            drop=drop,
            renumber=renumber,
            epoch=message.epoch,
            epoch_changed=said.epoch is not None and said.epoch != message.epoch,
            welcome=message,
            forked=forked,
        )

    def _ack(self, message: Ack) -> Ack:
        after = follow(CLIENT, self.state, ClientInput.ACK)
        if not self.acked <= message.next <= self.next:
            raise ProtocolError(
                "bad_control",
                f"ack of {message.next}, but {self.acked} to {self.next} is in flight",
                CLOSE_PROTOCOL,
            )
        self.state, self.acked = after, message.next
        if message.window is not None:
            self.window = message.window
        while self._sizes and self._sizes[0][0] <= self.acked:
            self.bytes_in_flight -= self._sizes.popleft()[1]
        return message

    def _nack(self, message: Nack) -> Nack:
        after = follow(CLIENT, self.state, ClientInput.NACK)
        if not self.acked <= message.at < self.next:
            raise ProtocolError(
                "bad_control",
                f"nack of {message.at}, but {self.acked} to {self.next} is in flight",
                CLOSE_PROTOCOL,
            )
        self.state = after
        return message
