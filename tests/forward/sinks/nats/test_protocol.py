from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ProtocolError
from edge_agent.forward.sinks.nats.protocol import (
    LINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NatsInfo,
    NatsMessage,
    NatsParser,
    NatsPing,
    NatsPong,
    NatsRefusal,
    Said,
    connect,
    publish,
    subscribe,
)

SAID = (
    b'INFO {"version":"2.15.1","max_payload":100,"headers":true,"new":[1]} \r\n'
    b"PING\r\n+OK\r\nPONG\r\n"
    b"MSG _INBOX.a.1 1 5\r\nhello\r\n"
    b"MSG a 1 reply 2\r\n\r\n\r\n"
    b"HMSG a 1 30 30\r\nNATS/1.0 503\r\nNats-Subject:x\r\n\r\n"
    b"HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    b"-ERR 'Authorization Violation'\r\n"
)
HEARD: list[Said] = [
    NatsInfo("2.15.1", 100, True),
    NatsPing(),
    NatsPong(),
    NatsMessage(b"_INBOX.a.1", b"hello"),
    NatsMessage(b"a", b"\r\n"),
    NatsMessage(b"a", b"", 503),
    NatsMessage(b"a", b"hi"),
    NatsRefusal("Authorization Violation"),
]


def test_what_a_server_says_is_heard() -> None:
    assert NatsParser().feed(SAID) == HEARD


@given(st.lists(st.integers(0, len(SAID)), max_size=20))
def test_it_is_heard_however_the_network_cuts_it(cuts: list[int]) -> None:
    parser, heard = NatsParser(), []
    for begin, end in pairwise(sorted({0, len(SAID), *cuts})):
        heard += parser.feed(SAID[begin:end])
    assert heard == HEARD


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"INFO {]\r\n",
        b"INFO [1]\r\n",
        b"INFO " + b"[" * 5000 + b"\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 r x 5\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 %d\r\n" % (MESSAGE_BYTES_MAX + 1),
        b"MSG a 1 " + b"9" * 5000 + b"\r\n",
        b"HMSG a 1 5\r\n",
        b"HMSG a 1 6 5\r\n",
        b"MSG a 1 2\r\nhello\r\n",
        b"x" * (LINE_BYTES_MAX + 1),
        b"+OK" + b"x" * LINE_BYTES_MAX + b"\r\n",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_nats_is_refused_with_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not NATS"):
        NatsParser().feed(data)


#: Pieces that bring a random text past the first line.
HOSTILE = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"MSG a 1 5\r\n", b"HMSG a 1 12 12\r\n", b"INFO {", b"\r\n", b"-ERR ",
                         b"PING\r\n", b"NATS/1.0", b" 99\r\n", b"MSG"]),
    ),
    max_size=12,
)  # fmt: skip


@given(HOSTILE)
def test_whatever_comes_it_is_heard_or_refused(pieces: list[bytes]) -> None:
    parser = NatsParser()
    try:
        for piece in pieces:
            parser.feed(piece)
    except ProtocolError:
        pass


def test_what_we_say() -> None:
    assert connect({"verbose": False}) == b'CONNECT {"verbose":false}\r\n'
    assert subscribe(b"_INBOX.x.*", 1) == b"SUB _INBOX.x.* 1\r\n"
    assert publish(b"a.b", b"hi") == b"PUB a.b 2\r\nhi\r\n"
    assert publish(b"a.b", b"hi", (), b"r") == b"PUB a.b r 2\r\nhi\r\n"
    assert publish(b"a", b"hi", [("K", "v")], b"r") == (
        b"HPUB a r 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nhi\r\n"
    )


@given(st.binary(max_size=50), st.dictionaries(st.sampled_from(["A", "B"]), st.text("xyz ")))
def test_what_we_publish_a_server_can_read_and_send_on(
    payload: bytes, headers: dict[str, str]
) -> None:
    said = publish(b"s", payload, headers.items())
    line, _, rest = said.partition(b"\r\n")
    kind, subject, *sizes = line.split()
    onward = b"%s %s 1 %s\r\n%s" % (kind.replace(b"PUB", b"MSG"), subject, b" ".join(sizes), rest)
    assert NatsParser().feed(onward) == [NatsMessage(b"s", payload)]
