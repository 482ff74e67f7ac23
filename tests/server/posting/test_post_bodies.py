"""What is a message in the body of a POST."""

from __future__ import annotations

from itertools import chain

import pytest

from edge_agent.errors import ProtocolError
from edge_agent.server.posting.post_bodies import messages_of, one_message, type_fault
from edge_agent.wire import LongText

JSON, LINES, MSGPACK = "application/json", "application/x-ndjson", "application/msgpack"


def all_of(kind: str, body: bytes) -> list[str | bytes]:
    return list(chain.from_iterable(messages_of(kind, body, 100).some))


@pytest.mark.parametrize(
    "kind, body, messages",
    [
        (JSON, b'{"t":\n 1}\n', ['{"t":\n 1}\n']),
        ("", b'{"t": 1}\n\n{"t": 2}\r\n', ['{"t": 1}', '{"t": 2}']),
        ("", b'{"t": NaN}\n{"t": 2}', ['{"t": NaN}', '{"t": 2}']),
        ("", b'{"t": "\\ud800"}\n{"t": 2}', ['{"t": "\\ud800"}', '{"t": 2}']),
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
    found = all_of(kind, body)
    assert [each.strip() for each in found] == [each.strip() for each in messages]


def test_what_is_no_text_is_the_fault_of_its_line() -> None:
    found = all_of("", b'{"t": 1}\n{"t": "\xff"}\n{"t": 3}')
    assert found == ['{"t": 1}', b'{"t": "\xff"}', '{"t": 3}']
    assert isinstance(found[1], LongText)  # Bytes are msgpack.


@pytest.mark.parametrize("end", ["/senml+cbor", "/cbor", "/xml", "/senml-exi", "/x-protobuf"])
def test_a_form_that_is_not_read_is_told_by_its_type(end: str) -> None:
    told = type_fault(f"application{end}") or ""
    assert end in told and "application/senml+json" in told


@pytest.mark.parametrize("kind", ["", JSON, LINES, MSGPACK, "text/plain", "a/x+json"])
def test_a_type_that_says_nothing_of_another_form_is_looked_at(kind: str) -> None:
    assert type_fault(kind) is None


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(ProtocolError, match="byte 1 is no UTF-8"):
        messages_of(JSON, b"{\xff}", 100)


@pytest.mark.parametrize(
    "kind, body", [(JSON, b'{"t": 1}\n'), (MSGPACK, b"\x80"), ("", b"[1, 2]"), (LINES, b"{}")]
)
def test_a_single_message_is_the_same_on_the_quick_way(kind: str, body: bytes) -> None:
    message = one_message(kind, body)
    assert message is not None
    assert [message.strip()] == [each.strip() for each in all_of(kind, body)]


@pytest.mark.parametrize(
    "kind, body", [(JSON, b"{}\n{}"), (JSON, b"\xff"), ("application/senml+json", b"[]")]
)
def test_nothing_else_goes_the_quick_way(kind: str, body: bytes) -> None:
    assert one_message(kind, body) is None


@pytest.mark.parametrize("letter", ["y", "\u00fc", "\U0001f600"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n \n"])
def test_lines_of_any_length_come_whole_and_some_at_a_time(letter: str, end: str) -> None:
    sizes = [1, 10, 40_000, 3, 31_000, 5, 70_000, 200, 200, 33_000, 1]
    lines = [f'{{"{n}":"{letter * size}"}}' for n, size in enumerate(sizes)]
    body = ("\n\n".join(lines) + end).encode()
    groups = [list(some) for some in messages_of(LINES, body, 100).some]
    found = [each if isinstance(each, str) else each.decode() for each in chain(*groups)]
    assert [each.strip() for each in found] == lines
    assert all(len(some) == 1 or sum(map(len, some)) <= 32 * 1024 for some in groups)


def test_a_body_of_one_line_is_a_single_message_and_of_two_is_not() -> None:
    assert messages_of(LINES, b'\n{"t": 1}\n', 100).is_single
    assert not messages_of(LINES, b'{"t": 1}\n{', 100).is_single
    assert not messages_of("", b'{"t": 1}\n{"t": 2}', 100).is_single
    assert messages_of("", b'[{"t": 1},\n{"t": 2}]', 100).is_single
