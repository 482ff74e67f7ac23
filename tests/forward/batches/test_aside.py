from __future__ import annotations

import msgpack

from edge_agent.errors import SinkRefused
from edge_agent.forward.batches.aside import quarantined
from edge_agent.values.record import Record
from tests.forward.support import make_run
from tests.forward.thinned import plain_block


def the_record() -> Record:
    (record,) = plain_block(1, make_run("t/1", 1)).records()
    return record


def test_an_entry_says_who_refused_which_record_and_why() -> None:
    record = the_record()
    refusal = SinkRefused("HTTP 400: no", "bad")
    told = quarantined(record, refusal, consumer="upstream/hub", log="main", now_ns=7)
    assert (told.code, told.reason) == ("upstream_bad", "upstream/hub: HTTP 400: no")
    assert (told.consumer, told.log, told.seq) == ("upstream/hub", "main", record.seq)
    assert msgpack.unpackb(told.body) == record.fields and told.arrival_ns == 7


def test_the_reason_for_a_record_of_its_own_comes_first() -> None:
    record = the_record()
    refusal = SinkRefused("some failed", "bad")
    refusal.records = {record.seq: "too hot"}
    told = quarantined(record, refusal, consumer="upstream/hub", log="main", now_ns=7)
    assert told.reason == "upstream/hub: too hot"
