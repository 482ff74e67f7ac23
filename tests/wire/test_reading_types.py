"""Limits and cuts of what reading gives."""

from __future__ import annotations

from edge_agent.wire.reading_types import (
    REASON_CHARACTERS_MAX,
    REJECT_BYTES_MAX,
    TooBigMessage,
    Undecodable,
    WireLimits,
    make_reject,
)


def test_what_cannot_be_read_closes_with_1007_and_what_is_too_big_with_1009() -> None:
    assert (Undecodable("x").code, Undecodable("x").close_code) == ("undecodable", 1007)
    assert (TooBigMessage("x").code, TooBigMessage("x").close_code) == ("too_big_message", 1009)


def test_a_reject_keeps_no_more_than_quarantine_and_a_nack_can_hold() -> None:
    reject = make_reject(7, "bad_stream", "m" * 9999, b"b" * 9999, "a")
    assert len(reject.body) == REJECT_BYTES_MAX == 4096
    assert len(reject.message) == REASON_CHARACTERS_MAX
    assert reject.message.endswith("(of its 9999 bytes the first 4096 are kept)")
    assert make_reject(7, "bad_time", "no time", b"b" * 4096, "a").message == "no time"


def test_the_limits_by_default_are_those_of_the_configuration() -> None:
    from edge_agent.config.shape import Limits

    told, wire = Limits(), WireLimits()
    assert wire.message_bytes == told.message_bytes
    assert wire.record_bytes == told.record_bytes
    assert wire.record_depth == told.record_depth
    assert wire.record_values == told.record_values
    assert WireLimits.of(told) == wire
    assert wire.batch_records == told.batch_records
