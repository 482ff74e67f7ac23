"""Plain mode: nothing is numbered; with ``?ack=1`` the agent tells how far it has come."""

from __future__ import annotations

import json

from edge_agent.errors import ProtocolError
from edge_agent.session import CLOSE_UNDECODABLE
from edge_agent.wire.reading_types import REASON_CHARACTERS_MAX
from edge_agent.wire.shapes import Learner


class PlainSession:
    """Counts the messages of one plain connection. It never goes out of order.

    Attributes:
        received: messages so far, those that could not be used included.
        dealt: the first so many are durable, as records or in quarantine.
        learner: what its records have in common, for `read_messages`.
    """

    def __init__(self, *, tells: bool, undecodable_max: int) -> None:
        self.received = 0
        self.dealt = 0
        self.learner = Learner()
        self._tells = tells
        self._undecodable_max = undecodable_max
        self._undecodable_in_a_row = 0

    def receive(self, messages: int) -> int:
        """So many messages were read; the count that `committed` takes once they are durable."""
        self.received += messages
        if messages:
            self._undecodable_in_a_row = 0
        return self.received

    def fail(self, error: ProtocolError) -> ProtocolError | None:
        """One more message came and cannot be read; it goes to quarantine and counts as received.

        Returns:
            None while the connection stays; otherwise why to close it (after the commit).
        """
        self.received += 1
        if error.close_code != CLOSE_UNDECODABLE:
            return error
        self._undecodable_in_a_row += 1
        if self._undecodable_in_a_row < self._undecodable_max:
            return None
        return ProtocolError(
            error.code,
            f"{self._undecodable_in_a_row} messages in a row could not be read; the last: "
            + error.message,
            CLOSE_UNDECODABLE,
        )

    def committed(self, dealt: int) -> str | None:
        """The first ``dealt`` messages are durable: what to send, if anything."""
        if dealt <= self.dealt:
            return None
        self.dealt = dealt
        return encode_plain_ack(dealt) if self._tells else None

    def error(self, error: ProtocolError, at: int) -> str | None:
        """What to tell about message ``at`` (from 1), if anything."""
        return encode_plain_error(error, at) if self._tells else None


def encode_plain_ack(messages: int) -> str:
    """With ``?ack=1``: the first ``messages`` messages have been dealt with durably."""
    return json.dumps({"ack": messages})


def encode_plain_error(error: ProtocolError, at: int) -> str:
    """With ``?ack=1``: what was wrong with the message numbered ``at``, from 1."""
    return json.dumps(
        {"error": error.code, "at": at, "message": error.message[:REASON_CHARACTERS_MAX]}
    )
