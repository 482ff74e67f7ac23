from __future__ import annotations

import json

import msgpack
import pytest

from edge_agent.cli.demo.compare import (
    HubRecord,
    SensorLedger,
    compare,
    fingerprint,
    ledgers_from_json,
    ledgers_to_json,
)

LEDGERS = {
    "a": SensorLedger([10, 20, 30], acked=2),
    "b": SensorLedger([40, 50], acked=2, refused={1}),
}
#: Everything that was acked, and one record that was sent and not acked.
WHOLE = [HubRecord("a", 1, 10), HubRecord("a", 2, 20), HubRecord("a", 3, 30), HubRecord("b", 2, 50)]


def test_everything_acked_and_there_once_is_clean() -> None:
    verdict = compare(LEDGERS, WHOLE)
    assert verdict.is_clean
    assert (verdict.sent, verdict.acked, verdict.at_hub) == (5, 3, 4)
    assert verdict.examples == ()


def test_a_record_that_is_missing_is_lost_only_if_it_was_acked() -> None:
    without_unacked = [each for each in WHOLE if (each.source, each.n) != ("a", 3)]
    assert compare(LEDGERS, without_unacked).is_clean
    verdict = compare(LEDGERS, WHOLE[1:])
    assert (verdict.lost, verdict.is_clean) == (1, False)
    assert verdict.examples == ("lost: a n=1",)


def test_each_further_copy_is_a_duplicate() -> None:
    verdict = compare(LEDGERS, [*WHOLE, WHOLE[0], WHOLE[0], WHOLE[3]])
    assert (verdict.duplicates, verdict.at_hub, verdict.is_clean) == (3, 7, False)
    assert verdict.examples == ("more than once: a n=1", "more than once: b n=2")


def test_one_lost_and_one_doubled_do_not_cancel_out() -> None:
    verdict = compare(LEDGERS, [*WHOLE[1:], WHOLE[1]])
    assert (verdict.lost, verdict.duplicates, verdict.is_clean) == (1, 1, False)


def test_other_content_is_altered() -> None:
    verdict = compare(LEDGERS, [HubRecord("a", 1, 99), *WHOLE[1:]])
    assert (verdict.altered, verdict.lost, verdict.is_clean) == (1, 0, False)


@pytest.mark.parametrize(
    "stranger", [HubRecord("c", 1, 1), HubRecord("a", 4, 1), HubRecord("a", 0, 1)]
)
def test_what_nobody_sent_is_a_difference(stranger: HubRecord) -> None:
    verdict = compare(LEDGERS, [*WHOLE, stranger])
    assert (verdict.strangers, verdict.is_clean) == (1, False)


def test_a_refused_record_at_the_hub_is_none_that_was_promised() -> None:
    assert LEDGERS["b"].acked_numbers() == {2}


def test_an_empty_hub_has_lost_everything_and_shows_a_few() -> None:
    verdict = compare({"a": SensorLedger(list(range(100)), acked=100)}, [])
    assert verdict.lost == 100
    assert len(verdict.examples) == 3


def test_a_fingerprint_survives_both_encodings_and_the_order_of_keys() -> None:
    fields = {"n": 1, "t": 21.53, "whole": 3.0, "ok": True, "text": "ä", "big": 2**40}
    as_msgpack = msgpack.unpackb(msgpack.packb(fields))
    as_json = json.loads(json.dumps(as_msgpack))
    assert fingerprint(dict(reversed(as_json.items()))) == fingerprint(fields)
    assert fingerprint({**fields, "t": 21.530000000000001}) == fingerprint(fields)
    assert fingerprint({**fields, "t": 21.54}) != fingerprint(fields)


def test_ledgers_survive_their_file() -> None:
    assert ledgers_from_json(ledgers_to_json(LEDGERS)) == LEDGERS
    with pytest.raises(ValueError, match="not a demo's ledger"):
        ledgers_from_json("[1]")
