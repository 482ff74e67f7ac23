"""What answers of real APIs say, word for word as their manuals show them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edge_agent.forward.sinks.http.record_outcomes import (
    BatchOutcome,
    by_status,
    outcome_of,
    printable,
)

IDS = [f"5f0c/main/{seq}" for seq in range(11, 16)]
STORED = {"create": {"_index": "logs", "_id": "a", "status": 201, "_shards": {"failed": 0}}}
BAD = {"type": "document_parsing_exception", "reason": "failed to parse field [t]"}


def said(answer: Any) -> BatchOutcome:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return outcome_of(body, IDS)


def bulk(*items: Any) -> dict[str, Any]:
    failed = any("error" in item["create"] for item in items)
    return {"took": 3, "errors": failed, "items": list(items)}


def item(status: int, error: Any = BAD) -> dict[str, Any]:
    return {"create": {"_index": "logs", "_id": "b", "status": status, "error": error}}


TAKEN: list[Any] = [
    bulk(*[STORED] * 5),
    # All are there already: a repeat of what was taken.
    bulk(STORED, *[item(409, {"type": "version_conflict_engine_exception"})] * 4),
    {"errors": []}, {"errors": None, "error": ""}, {"errors": 0}, {"error": {}}, {"errors": "none"},
    {"success": True}, {"ok": True, "errors": False}, {"status": "ok"}, {"status": 200},
    {"text": "Success", "code": 0}, {"code": 0},
    {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1", "ShardId": "s"}] * 5},
    {"partialSuccess": {}}, {"partialSuccess": {"rejectedLogRecords": "0", "errorMessage": ""}},
    {"jsonrpc": "2.0", "result": 5, "id": 1},
    {"errcode": 0, "errmsg": "ok"}, {"code": "00000", "message": "success"},
    {"captive": False}, {"_shards": {"total": 2, "failed": 1}}, {"status": "success", "data": None},
    # Names that hold a word of failure and mean something else.
    {"error_rate": 0.2, "errors_url": "https://h/x", "failover": True},
    # An upstream that sends back what it was sent, our fields and all.
    {"stored": [{"id": i, "seq": 1, "fields": {"error": "E7", "status": 500}} for i in IDS]},
    # All of them, counted or said; or what were there before and what is new together.
    {"accepted": 5}, {"success": "true"}, {"ok": 1}, {"success": 1}, {"ok": "yes"},
    {"successCount": 5, "failedCount": 0}, {"stored": "5 of 5"}, {"partial": False},
    {"inserted": 3, "updated": 2}, {"accepted": 0, "duplicates": 5}, {"created": 1_767_225_600},
    {"accepted": 4, "duplicates": [IDS[0]]}, {"success": "5 records stored"},
    {"ok": "no errors"}, {"created": "2026-11-22T10:00:00Z"}, {"success_message": None},
    {"skipped": 0}, {"accepted": IDS}, ["stored"] * 5, {"created": False, "updated": True},
    None, [], [1, 2], "stored", 5, {},
]  # fmt: skip


@pytest.mark.parametrize("answer", TAKEN)
def test_what_says_that_all_is_well_or_nothing_of_it(answer: Any) -> None:
    assert said(answer).verdict.kind == "taken" and not said(answer).refused


NAMED = [
    (bulk(STORED, item(400), STORED, STORED, item(422)), {1, 4}),
    # Another record has its id already: its own matter.
    (bulk(STORED, item(409), *[STORED] * 3), {1}),
    ([{"status": 200}] * 4 + [{"status": 422, "message": "no t"}], {4}),
    ({"responses": [{"status": "201"}] * 4 + [{"status": "400"}]}, {4}),
    ({"results": [{"ok": True}] * 3 + [{"ok": False, "error": "no t"}, {"ok": True}]}, {3}),
    (
        {"FailedRecordCount": 1, "Records": [{"SequenceNumber": "1"}] * 4 + [{"ErrorCode": "X"}]},
        {4},
    ),
    # In another order, or only the failed ones: by our ids.
    ({"results": [{"id": i, "status": 400 if i == IDS[3] else 201} for i in reversed(IDS)]}, {3}),
    ({"Successful": ["m"] * 4, "Failed": [{"Id": IDS[2], "Code": "InvalidParameter"}]}, {2}),
    ({"rejected": [IDS[0]]}, {0}), ({"accepted": 3, "rejected": IDS[3:]}, {3, 4}),
    ({"results": [{"success": 1}] * 4 + [{"success": 0}]}, {4}),
    ({"results": [{"accepted": "yes"}] * 4 + [{"accepted": None}]}, {4}),
    (["ok"] * 4 + ["failed"], {4}),
    ({"data": {"results": [{"status": 200}] * 4 + [{"status": 400}]}}, {4}),
]  # fmt: skip


@pytest.mark.parametrize("answer, refused", NAMED)
def test_records_that_are_named_are_refused_and_the_others_taken(
    answer: Any, refused: set[int]
) -> None:
    outcome = said(answer)
    assert set(outcome.refused) == refused and outcome.verdict.kind == "refused"
    assert all(outcome.refused.values())


def test_the_reason_is_the_upstreams() -> None:
    outcome = said(bulk(STORED, item(400), STORED, STORED, STORED))
    assert "failed to parse field [t]" in outcome.refused[1]


OTHERWISE = [
    # All of them: that may be the configuration, so the batch is halved as after a 400.
    (bulk(*[item(400)] * 5), "refused"),
    ({"status": 400, "error": "Bad Request"}, "refused"),
    ({"errors": [{"status": 400}]}, "refused"),
    # As many failures as records: their places say nothing, they may be of one record.
    ({"errors": [{"status": 400}] * 5}, "refused"),
    (bulk(STORED, item(429), STORED, item(400), STORED), "later"),
    (bulk(STORED, item(503), *[STORED] * 3), "later"),
    ({"status": 503}, "later"),
    ({"value": [{"status": True}] * 4 + [{"status": False, "statusCode": 503}]}, "later"),
    (
        {"FailedRecordCount": 1, "Records": [{"SequenceNumber": "1"}] * 4
         + [{"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate"}]},
        "later",
    ),
    (bulk(item(403, {"type": "cluster_block_exception"}), *[STORED] * 4), "person"),
    ({"status": 401}, "person"),
    ({"errors": True}, "unclear"), ({"success": False}, "unclear"), ({"ok": False}, "unclear"),
    ({"status": "error", "message": "db down"}, "unclear"), ({"result": "failed"}, "unclear"),
    ({"error": "no such table"}, "unclear"), ({"error": {"code": 7}}, "unclear"),
    ({"data": None, "errors": [{"message": "no field t"}]}, "unclear"),
    ({"jsonrpc": "2.0", "error": {"code": -32602, "message": "no"}, "id": 1}, "unclear"),
    ({"text": "Invalid data format", "code": 6}, "unclear"),
    ({"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "no"}}, "unclear"),
    ({"failed": 3}, "unclear"), ({"failed": ["x"]}, "unclear"), ({"rejectedRows": 1}, "unclear"),
    ({"response": {"errors": True}}, "unclear"), ({"captive": True}, "unclear"),
    ({"errcode": 40001, "errmsg": "invalid credential"}, "unclear"),
    # It says nothing of the last one.
    ({"results": [{"id": i, "status": 400 if i == IDS[3] else 201} for i in IDS[:4]]}, "refused"),
    # It counts more than it names.
    ({"failed": 2, "results": [{"status": 200}] * 4 + [{"status": 400}]}, "unclear"),
    # It counts fewer than it leaves over.
    ({"accepted": 1, "rejected": IDS[3:]}, "unclear"),
    ({"Successful": [], "Failed": [{"Id": IDS[2], "Code": "X"}]}, "unclear"),
    ({"accepted": 3, "results": [{"status": 200}] * 5}, "unclear"),
    (False, "unclear"), ("error", "unclear"), ([False] * 5, "unclear"),
    (b'{"error": 1e400}', "unclear"), (b'{"error": "\xff"}', "unclear"),
]  # fmt: skip


NOT_ALL: list[Any] = [
    {"success": 0}, {"success": "0"}, {"success": None}, {"success": ""}, {"success": {}},
    {"success": []}, {"success": "false"}, {"success": 0.0}, {"success": -1}, {"isSuccess": None},
    {"ok": 0}, {"ok": "no"}, {"ok": None}, {"ok": "N"}, {"ok": "not yet"}, {"ok": 4},
    {"success": "records could not be stored"}, {"success": "partially"}, {"stored": "3 of 5"},
    {"accepted": 0}, {"accepted": 4}, {"accepted": "4"}, {"accepted": []}, {"accepted": IDS[:4]},
    {"accepted": None}, {"acknowledged": 0}, {"acknowledged": "none"}, {"received": False},
    {"successCount": 4}, {"records_stored": 0}, {"acceptedRecords": 1}, {"insertedCount": 4},
    {"data": {"accepted": 4}}, {"inserted": 2, "updated": 2}, {"received": 5, "stored": 4},
    {"partial": True}, {"partial": "yes"}, {"isPartial": 1}, {"partialSuccess": True},
    {"partial": IDS[:2]}, {"partialSuccess": IDS[:2]}, {"incomplete": True}, {"complete": False},
    {"skipped": 1}, {"ignored": 2}, {"discarded": "all"}, {"lost": 1}, {"status": "incomplete"},
    {"status": "no"}, {"result": "skipped"}, "no", "partial", "3/5",
]  # fmt: skip


@pytest.mark.parametrize("answer", NOT_ALL)
def test_what_says_that_not_all_were_taken_is_no_acknowledgement(answer: Any) -> None:
    outcome = said(answer)
    assert outcome.verdict.kind == "unclear" and not outcome.refused
    assert outcome.verdict.reason


@pytest.mark.parametrize("answer, kind", OTHERWISE)
def test_what_names_no_record_is_about_the_batch(answer: Any, kind: str) -> None:
    outcome = said(answer)
    assert outcome.verdict.kind == kind and not outcome.refused
    assert outcome.verdict.reason


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"{}x", b"[" * 100_000, b"\xff", b"<p>"])
def test_what_is_no_json(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError, RecursionError)):
        outcome_of(body, IDS)


@pytest.mark.parametrize(
    "status, kind",
    [(200, "taken"), (299, "taken"), (302, "later"), (400, "refused"), (413, "refused"),
     (401, "person"), (404, "person"), (409, "person"), (429, "later"), (503, "later"),
     (999, "later"), (0, "later")],
)  # fmt: skip
def test_a_status_of_the_whole(status: int, kind: str) -> None:
    assert by_status(status) == kind


def test_foreign_text_is_one_line_of_what_can_be_printed() -> None:
    assert printable("a\x1b[31m\r\n b" + "x" * 1000) == "a [31m b" + "x" * 192


def test_errors_that_no_record_shows_are_not_counted_as_taken() -> None:
    body = b'{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":201}}]}'
    assert outcome_of(body, ["a", "b"]).verdict.kind == "unclear"
    sound = body.replace(b"true", b"false")
    assert outcome_of(sound, ["a", "b"]).verdict.kind == "taken"
