"""What is a message in the body of a POST."""

from __future__ import annotations

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.server.post_bodies import messages_of, one_message

JSON, LINES, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"


@pytest.mark.parametrize(
    "kind, body, messages",
    [
        (JSON, b'{"t":\n 1}\n', ['{"t":\n 1}\n']),
        ("", b'{"t": 1}\n\n{"t": 2}\r\n', ['{"t": 1}', '{"t": 2}']),
        (LINES, b'{"t": 1}\n', ['{"t": 1}\n']),
        (MSGPACK, b"\x81\xa1t\n", [b"\x81\xa1t\n"]),
        ("", b"", [""]),
        (JSON, b'\xef\xbb\xbf{"t": 1}', ['{"t": 1}']),
        ("", b'\xef\xbb\xbf{"t": 1}\n{"t": 2}', ['{"t": 1}', '{"t": 2}']),
    ],
)
def test_a_body_is_one_message_or_one_to_a_line(
    kind: str, body: bytes, messages: list[str | bytes]
) -> None:
    # What JSON allows around a value, such as the \r of a line, may stay.
    found = messages_of(kind, body, 100)
    assert [each.strip() for each in found] == [each.strip() for each in messages]


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(ProtocolError, match="byte 1 is no UTF-8"):
        messages_of(JSON, b"{\xff}", 100)


@pytest.mark.parametrize(
    "kind, body", [(JSON, b'{"t": 1}\n'), (MSGPACK, b"\x80"), ("", b"[1, 2]"), (LINES, b"{}")]
)
def test_a_single_message_is_the_same_on_the_quick_way(kind: str, body: bytes) -> None:
    message = one_message(kind, body)
    assert message is not None
    assert [message.strip()] == [each.strip() for each in messages_of(kind, body, 100)]


@pytest.mark.parametrize(
    "kind, body", [(JSON, b"{}\n{}"), (JSON, b"\xff"), ("application/senml+json", b"[]")]
)
def test_nothing_else_goes_the_quick_way(kind: str, body: bytes) -> None:
    assert one_message(kind, body) is None
