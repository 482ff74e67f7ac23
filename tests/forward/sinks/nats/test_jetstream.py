from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edge_agent.config import Duration, NatsTable, Size
from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.nats.jetstream import (
    BATCH,
    POSITION,
    ApiError,
    InStream,
    PubAck,
    PublishOutcome,
    StreamConfig,
    ack_of,
    fast_end,
    fast_reply,
    is_final,
    is_of_another,
    outcome_of,
    position_of,
    refusal_of,
    stream_of,
    stream_to_make,
    ways_of,
)
from edge_agent.forward.sinks.nats.protocol import NatsMessage
from edge_agent.store import OPENINGS_MAX, Identity


def answer(body: object) -> NatsMessage:
    return NatsMessage(b"r", json.dumps(body).encode())


def stored(headers: bytes) -> NatsMessage:
    return answer({"message": {"seq": 7, "hdrs": b64encode(headers).decode(), "data": ""}})


def test_an_acknowledgement_says_where_it_is_stored() -> None:
    said = {"stream": "E", "seq": 5, "batch": "b", "count": 3}
    assert ack_of(answer(said), "s") == PubAck("E", 5, batch="b", count=3)
    assert ack_of(answer({"stream": "E", "seq": 5, "duplicate": True}), "s").duplicate
    error = ack_of(answer({"error": {"code": 400, "err_code": 10071, "description": "x"}}), "s")
    assert error.error == ApiError(400, 10071, "x")


def test_nobody_who_listens_is_no_acknowledgement() -> None:
    with pytest.raises(SinkUnavailable, match=r"no stream takes edge\.a\.main"):
        ack_of(NatsMessage(b"r", b"", 503), "edge.a.main")
    with pytest.raises(SinkUnavailable, match="no JetStream"):
        stream_of(NatsMessage(b"r", b"", 503))


def test_the_last_message_says_what_the_stream_has() -> None:
    there = InStream(7, "e0", "main", 2, 4711)
    ((_, told),) = there.headers()
    header = f"NATS/1.0\r\nNats-Msg-Id: x\r\n{POSITION}: {told}\r\n\r\n"
    assert position_of(stored(header.encode())) == there
    (_, (name, opening)) = there._replace(opening="ab12").headers()
    whose = header.replace("\r\n\r\n", f"\r\n{name}: {opening}\r\n\r\n")
    assert position_of(stored(whose.encode())) == there._replace(opening="ab12")
    more = header.replace("\r\n\r\n", f"\r\n{BATCH}: b1\r\n\r\n")
    assert position_of(stored(more.encode())) == there._replace(batch="b1")


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"NATS/1.0\r\n\r\n",
        b"%s: e main x 1\r\n" % POSITION.encode(),
        b"%s: a b\r\n" % BATCH.encode(),
        b"\xff\x00",
    ],
)
def test_a_message_of_somebody_else_says_only_that_it_is_there(headers: bytes) -> None:
    assert position_of(stored(headers)) == InStream(7)


def test_a_stream_without_a_message_has_nothing() -> None:
    assert position_of(answer({"error": {"code": 404, "err_code": 10037}})) == InStream()


def test_refusals_are_sorted_by_what_can_be_done() -> None:
    big = refusal_of(ApiError(400, 10054, "message size exceeds maximum allowed"))
    assert isinstance(big, SinkRefused) and big.code == "too_big"
    full = refusal_of(ApiError(400, 10077, "maximum bytes exceeded"))
    assert isinstance(full, SinkUnavailable) and not full.slow
    off = refusal_of(ApiError(503, 10039, "jetstream not enabled for account"))
    assert isinstance(off, SinkUnavailable) and off.slow
    busy = refusal_of(ApiError(429, 10210, "too many inflight"))
    assert isinstance(busy, SinkUnavailable) and busy.retry_after == 1.0
    dropped = refusal_of(ApiError(429, 10167, "too many requests"))
    assert isinstance(dropped, SinkUnavailable) and dropped.retry_after == 1.0


@given(st.binary(max_size=60) | st.text().map(str.encode) | st.sampled_from([b"[" * 9999, b"{}"]))
def test_an_answer_that_is_none_keeps_everything(payload: bytes) -> None:
    for read in (stream_of, position_of, lambda got: ack_of(got, "s")):
        try:
            read(NatsMessage(b"r", payload))
        except SinkUnavailable:
            pass


def test_a_stream_is_made_as_the_table_says() -> None:
    table = NatsTable(replicas=3, max_bytes=Size(2**30), max_age=Duration(60))
    wanted = {
        "name": "EDGE", "subjects": ["edge.*.*"], "storage": "file", "num_replicas": 3,
        "allow_atomic": True, "allow_direct": True, "max_bytes": 2**30, "max_age": 60 * 10**9,
    }  # fmt: skip
    assert json.loads(stream_to_make(table, ["edge.*.*"], "2.13.9")) == wanted
    newer = wanted | {"allow_batched": True}
    assert json.loads(stream_to_make(table, ["edge.*.*"], "2.14.0-RC.1")) == newer


def test_what_is_outcome_of_messages_is_what_comes_before_the_first_that_is_refused() -> None:
    one, two = PubAck("EDGE", 7), PubAck("EDGE", 8)
    broken = PubAck("EDGE", error=ApiError(400, 10070))
    assert outcome_of([one, two], 2) == PublishOutcome(2, 8, "EDGE")
    assert outcome_of([one, broken, two], 3) == PublishOutcome(1, 7, "EDGE", broken.error)
    assert outcome_of([broken, broken], 2) == PublishOutcome(0, 0, "", broken.error)
    # The number of what is there already is not that of the last one.
    assert outcome_of([one, PubAck("EDGE", 3, duplicate=True)], 2) == PublishOutcome(2, 7, "EDGE")
    # One answer for a batch: all of an atomic one, or as far as a fast one came.
    assert outcome_of([PubAck("EDGE", 9)], 5) == PublishOutcome(5, 9, "EDGE")
    assert outcome_of([PubAck("EDGE", 9, batch="x", count=3)], 5) == PublishOutcome(3, 9, "EDGE")


def test_the_best_way_that_a_stream_offers_is_taken_first() -> None:
    both = StreamConfig(allow_atomic=True, allow_batched=True)
    assert ways_of(both) == ["fast", "atomic", "chained"]
    assert ways_of(structs.replace(both, num_replicas=3)) == ["atomic", "chained"]
    assert ways_of(StreamConfig()) == ["chained"]


def test_a_fast_batch_is_told_by_where_its_answers_go() -> None:
    assert fast_reply(b"_INBOX.a.b1", 1, is_last=False) == b"_INBOX.a.b1.500.fail.1.0.$FI"
    assert fast_reply(b"_INBOX.a.b1", 2, is_last=False) == b"_INBOX.a.b1.500.fail.2.1.$FI"
    assert fast_reply(b"_INBOX.a.b1", 3, is_last=True) == b"_INBOX.a.b1.500.fail.3.2.$FI"
    assert fast_end(b"_INBOX.a.c2", b"b1") == b"_INBOX.a.c2.b1.500.fail.1000000.4.$FI"
    flow = [{"type": "ack", "seq": 0, "msgs": 5}, {"type": "gap", "last_seq": 1, "seq": 3}]
    assert not any(is_final(NatsMessage(b"r", msgspec.json.encode(one))) for one in flow)
    assert is_final(answer({"stream": "E", "seq": 5})) and is_final(NatsMessage(b"r", b"", 503))


def test_an_opening_that_is_none_of_ours_or_came_further_is_of_another_history() -> None:
    ends = tuple((f"o{n}", 10 * n) for n in range(1, 4))
    ours = Identity("5" * 32, "e0", "a" * 12, 1, opening="now", ends={"main": ends})

    def is_another(opening: str, upto: int, floor: int = 0, who: Identity = ours) -> bool:
        there = InStream(7, "e0", "main", 0, upto, opening=opening)
        return is_of_another(there, who, "main", floor)

    assert not is_another("now", 99)
    assert [is_another("o2", upto) for upto in (1, 20, 21)] == [False, False, True]
    assert is_another("other", 5) and not is_another("other", 5, floor=5)
    # Of an older version, and of an opening that is older than all that are remembered.
    assert not is_another("", 99)
    many = tuple((f"o{n}", 10 * n) for n in range(1, OPENINGS_MAX))
    full = replace(ours, ends={"main": many})
    assert [is_another("other", upto, who=full) for upto in (10, 11)] == [False, True]
    # A log that is new since then.
    assert not is_of_another(InStream(7, "e0", "new", 0, 5, opening="now"), ours, "new", 0)
