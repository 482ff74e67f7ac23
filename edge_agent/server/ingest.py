"""Sensors: what the messages of a session on ``/ingest/STREAM`` mean."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.errors import ProtocolError
from edge_agent.server.endings import quarantined
from edge_agent.server.parts import Parts, Visitor
from edge_agent.server.session import SessionPump, Taken
from edge_agent.server.websocket import WebSocket
from edge_agent.wire import CLOSE_FORBIDDEN, Arrival, Hello, ServerSession
from edge_agent.wire.control import Mode


class SensorIntake:
    """Records become runs; what cannot be used goes to quarantine in the same entry."""

    def __init__(self, parts: Parts, visitor: Visitor) -> None:
        self._parts = parts
        self._visitor = visitor

    def source_of(self, hello: Hello) -> str:
        """The name that the sensor gave itself.

        Raises:
            ProtocolError: ``forbidden_source``, the token does not allow that name.
        """
        may_be = self._visitor.grant.may_be
        if may_be is not None and not may_be(hello.source):
            raise ProtocolError(
                "forbidden_source",
                f"the token does not allow the source {hello.source!r}",
                CLOSE_FORBIDDEN,
            )
        return hello.source

    async def take_in(
        self, session: ServerSession, source: str, messages: Sequence[str | bytes]
    ) -> Taken:
        """Read, number, judge and apply the rules before storing."""
        arrival = arrival_of(self._parts, self._visitor, source)
        received = session.receive_data(messages, arrival)
        refused = tuple(quarantined(reject, source, arrival.wall_ns) for reject in received.rejects)
        return Taken(
            self._parts.apply_rules(received.runs),
            (),
            refused,
            received.messages,
            received.numbers,
            received.numbers,
            received.size,
        )


def arrival_of(parts: Parts, visitor: Visitor, source: str) -> Arrival:
    """What is the same for all that one read brought."""
    reading = parts.clock.read()
    return Arrival(
        visitor.target.name, source, reading.wall_ns, reading.synced, visitor.grant.may_write
    )


async def serve_session(socket: WebSocket, parts: Parts, visitor: Visitor, mode: Mode) -> None:
    """One sensor's session, from hello to the last answer."""
    intake = SensorIntake(parts, visitor)
    await SessionPump(socket, parts, visitor, intake, mode=mode, limits=parts.wire_limits).run()
