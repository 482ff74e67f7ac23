"""What a server sends is what a client understands."""

from __future__ import annotations

import pytest
from wsproto.connection import CLIENT, Connection
from wsproto.events import CloseConnection, Message

from edge_agent.wire.frames_out import close_frame, data_frame


def client(data: bytes) -> tuple[object, ...]:
    """What a client's wsproto sees in one frame."""
    connection = Connection(CLIENT)
    connection.receive_data(data)
    (event,) = connection.events()
    if isinstance(event, CloseConnection):
        return int(event.code), event.reason
    assert isinstance(event, Message) and event.message_finished
    return (event.data,)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
def test_a_client_understands_our_messages(size: int) -> None:
    assert client(data_frame("x" * size)) == ("x" * size,)
    assert client(data_frame(b"\x00" * size)) == (b"\x00" * size,)


@pytest.mark.parametrize("reason", ["", "bye", "x" * 123, "x" * 500, "x" * 122 + "ä", "€" * 50])
def test_a_client_understands_our_close_of_any_reason(reason: str) -> None:
    code, told = client(close_frame(1013, reason))
    assert code == 1013
    assert isinstance(told, str) and reason.startswith(told)
    assert told == reason if len(reason.encode()) <= 123 else len(told.encode()) > 119
