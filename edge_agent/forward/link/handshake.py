"""The deadline for another side's first word, once it has taken our connection.

A port that is forwarded to nobody, a broker that hangs, or something that waits for us to speak
another protocol takes connections and is silent. The ``timeout`` of an upstream (30 s) is for data
on a weak link, where a word may be behind megabytes; nothing is in front of the first one, so it is
waited for less, and what is told says what was waited for.

MQTT, NATS and PostgreSQL keep to it. An agent's hub does not: after an outage it lets agents in one
after the other. HTTP has no word before its answer to a batch, and Kafka's library has its own
deadlines.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from edge_agent.errors import SinkUnavailable

HANDSHAKE_S: Final = 10.0


@contextmanager
def handshake(timeout: float) -> Iterator[None]:
    """Around the wait for the first word; ``timeout`` is the upstream's, which may be less.

    Raises:
        SinkUnavailable: it did not come.
    """
    limit = min(HANDSHAKE_S, timeout)
    with trio.move_on_after(limit) as scope:
        yield
    if scope.cancelled_caught:
        text = f"it takes connections, and has said nothing for {limit:g} s"
        raise SinkUnavailable(text, obstacle="there")
