from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import SinkRefused, SinkUnavailable
from edge_agent.forward.sinks.http.answer import (
    ANSWER_BYTES_MAX,
    HttpAnswer,
    Sent,
    answer_bytes_max,
    judge,
    retry_after_s,
)
from tests.forward.support import NOW_NS
from tests.forward.test_hostile_answers import bodies, dates

KEY = "5f0c/main/1-9"
SENT = [Sent(seq, f"5f0c/main/{seq}") for seq in (1, 2, 3)]


def verdict(
    status: int, body: bytes = b"", kind: str = "", *, complete: bool = True, **headers: str
) -> object:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if kind:
        named["content-type"] = kind
    return judge(HttpAnswer(status, named, body, complete), KEY, NOW_NS)


ACKNOWLEDGED = [
    (200, b"", ""),
    (201, b"", "application/json"),
    (202, b"", ""),
    (204, b"", ""),
    (200, b'{"taken": 9}', "application/json"),
    (200, b"[]", "application/json; charset=utf-8"),
    (200, b"null", "Application/Problem+JSON"),
    (200, b"", "text/plain"),
    (200, b"ok", "text/plain"),
    (200, b"ok\n", ""),
    (200, b"OK", "text/html; charset=utf-8"),
    (200, b'"ok"', "application/json"),
    (200, b'\xef\xbb\xbf{"taken": 9}', "application/json"),
    (200, b"\xff\xfe{\0}\0", "application/json"),
    (200, b'{"taken": 9}', "text/plain"),
    (200, b'{"taken": 9}', ""),
    (200, b'{"n": 1}\n{"n": 2}\n', "application/x-ndjson"),
    (207, b'{"results": [{"status": 201}]}', "application/json"),
    (207, b"", ""),
]
NOT_ACKNOWLEDGED = [
    (200, b"<html>Please log in</html>", "text/html"),
    (200, b"", "text/html; charset=utf-8"),
    (204, b"", "text/html"),
    (200, b"<html>", "application/json"),
    (200, b"{", "application/json"),
    (200, b"\xff", "application/json"),
    (200, b"<p>ok</p>", "text/plain"),
    (200, b"please log in", "text/plain"),
    (200, b"{}", "text/html"),
    (200, b"{}", "text/json-ish"),
    (203, b"", ""),
    (205, b"", ""),
    (206, b"{}", "application/json"),
    (207, b"<multistatus/>", "application/xml"),
    (208, b"", ""),
]


@pytest.mark.parametrize("status, body, kind", ACKNOWLEDGED)
def test_what_acknowledges(status: int, body: bytes, kind: str) -> None:
    assert verdict(status, body, kind) is None


@pytest.mark.parametrize("status, body, kind", NOT_ACKNOWLEDGED)
def test_what_never_acknowledges(status: int, body: bytes, kind: str) -> None:
    error = verdict(status, body, kind)
    assert isinstance(error, SinkUnavailable) and not error.slow
    assert str(status) in str(error)


def test_an_answer_that_is_too_long_to_read_does_not_acknowledge() -> None:
    body = b"1" * ANSWER_BYTES_MAX
    assert isinstance(verdict(200, body, "application/json", complete=False), SinkUnavailable)


def test_the_echoed_key_is_certain_whatever_the_body() -> None:
    assert verdict(200, b"<html>", "text/html", idempotency_key=KEY) is None
    assert verdict(200, b"", "", idempotency_key=f'"{KEY}"') is None


def test_another_key_is_no_acknowledgement_whatever_the_body() -> None:
    assert isinstance(verdict(204, idempotency_key="5f0c/main/1-8"), SinkUnavailable)
    assert isinstance(verdict(203, idempotency_key=KEY), SinkUnavailable)


@pytest.mark.parametrize("status, code", [(400, "refused"), (413, "too_big"), (422, "refused")])
def test_only_three_answers_are_about_the_content(status: int, code: str) -> None:
    error = verdict(status, b"field t:\n\x00 too hot", "text/plain")
    assert isinstance(error, SinkRefused) and error.code == code
    assert "field t: too hot" in str(error)


@pytest.mark.parametrize(
    "status", [401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 415, 418, 451]
)
def test_every_other_4xx_keeps_everything_and_retries_slowly(status: int) -> None:
    error = verdict(status)
    assert isinstance(error, SinkUnavailable) and error.slow and error.retry_after is None


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 408, 425, 500, 502, 503, 504, 511, 599]
)
def test_what_may_pass_by_itself_backs_off(status: int) -> None:
    error = verdict(status)
    assert isinstance(error, SinkUnavailable) and not error.slow and error.retry_after is None


def test_a_redirect_says_where_to_and_is_not_followed() -> None:
    assert "http://portal/" in str(verdict(302, location="http://portal/"))


def test_what_only_a_proxy_says_is_told_as_the_proxys() -> None:
    assert "HTTP 407 from the proxy (it wants proxy_auth_file" in str(verdict(407))


@pytest.mark.parametrize("status", [429, 503])
def test_an_upstream_may_ask_for_time(status: int) -> None:
    error = verdict(status, retry_after="7")
    assert isinstance(error, SinkUnavailable) and error.retry_after == 7 and not error.slow


def test_too_many_requests_without_a_time_backs_off_as_usual() -> None:
    error = verdict(429)
    assert isinstance(error, SinkUnavailable) and error.retry_after is None and not error.slow


@pytest.mark.parametrize(
    "value, seconds",
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("9" * 400, 999_999_999),
        ("Sun, 22 Nov 2026 10:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 10:01:30 -0000", 90),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_NS) == seconds


def judged(body: Any, sent: list[Sent] = SENT, *, more: dict[str, str] | None = None) -> object:
    headers = {"content-type": "application/json"} | (more or {})
    return judge(HttpAnswer(200, headers, json.dumps(body).encode()), KEY, NOW_NS, "auto", sent)


def test_records_that_a_200_refuses_are_named_by_their_numbers() -> None:
    items = [{"index": {"status": status, "error": {"reason": "no t"}}} for status in (400, 400)]
    error = judged({"errors": True, "items": [{"index": {"status": 201}}, *items]})
    assert isinstance(error, SinkRefused) and set(error.records) == {2, 3}
    assert "refuses 2 of 3 records" in str(error) and "no t" in error.records[3]


def test_all_records_refused_are_a_refusal_of_the_batch() -> None:
    items = [{"index": {"status": 400, "error": {"reason": "no t"}}}] * 3
    error = judged({"errors": True, "items": items})
    assert isinstance(error, SinkRefused) and not error.records


def test_records_that_a_200_wants_later_keep_the_batch() -> None:
    items = [{"index": {"status": status}} for status in (201, 429, 400)]
    error = judged({"errors": True, "items": items}, more={"retry-after": "7"})
    assert isinstance(error, SinkUnavailable) and error.halve and error.retry_after == 7
    alone = judged({"items": [{"index": {"status": 429}}]}, SENT[:1])
    assert isinstance(alone, SinkUnavailable) and not alone.halve


def test_a_failure_that_says_no_more_keeps_the_batch_and_says_what_would_take_it() -> None:
    error = judged({"success": False, "error": "database is down"})
    assert isinstance(error, SinkUnavailable) and error.halve and not error.slow
    assert "database is down" in str(error) and "accept" in str(error)


def test_an_echoed_key_does_not_make_a_failure_a_success() -> None:
    error = judged({"errors": True}, more={"idempotency-key": KEY})
    assert isinstance(error, SinkUnavailable)


@pytest.mark.parametrize(
    "accept, body, kind, taken",
    [
        ("status", b"<html>", "text/html", True),
        ("status", b'{"errors": true}', "application/json", True),
        ("json", b"{}", "text/html", True),
        ("json", b'{"errors": true}', "application/json", False),
        ("json", b"ok", "text/plain", False),
        ("json", b"", "", False),
        ("text:stored", b"\xef\xbb\xbfstored\r\n", "text/html", True),
        ("text:stored", b"ok", "text/plain", False),
        ("text:stored", b"", "", False),
        ("text:stored", b"{}", "application/json", False),
    ],
)
def test_accept_says_what_counts(accept: str, body: bytes, kind: str, taken: bool) -> None:
    error = judge(HttpAnswer(200, {"content-type": kind}, body), KEY, NOW_NS, accept, SENT)
    assert (error is None) is taken


@pytest.mark.parametrize("accept", ["auto", "status", "json", "text:ok"])
@pytest.mark.parametrize("status", [199, 302, 400, 404, 503])
def test_no_accept_makes_anything_but_a_2xx_an_acknowledgement(accept: str, status: int) -> None:
    headers = {"content-type": "application/json"}
    assert judge(HttpAnswer(status, headers, b"{}"), KEY, NOW_NS, accept, SENT) is not None


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_an_answer_that_is_compressed_although_nobody_asked_is_read(encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    assert judge(HttpAnswer(200, headers, gzip.compress(b"{}")), KEY, NOW_NS) is None
    bad = judge(HttpAnswer(200, headers, gzip.compress(b'{"errors": true}')), KEY, NOW_NS)
    assert isinstance(bad, SinkUnavailable)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_bomb_does_not_go_off(encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    bomb = gzip.compress(b"[" + b" " * 2 * ANSWER_BYTES_MAX + b"]")
    assert isinstance(judge(HttpAnswer(200, headers, bomb), KEY, NOW_NS), SinkUnavailable)


def test_what_an_answer_says_is_shown_without_what_a_terminal_would_obey() -> None:
    error = verdict(400, b"\x1b]0;owned\x07 no\r\n\xe2\x80\xaet", "text/plain")
    assert str(error).isprintable()


@given(
    st.integers(0, 1100),
    st.dictionaries(
        st.sampled_from(["retry-after", "content-type", "content-encoding", "location", "x"]),
        st.text(max_size=40) | dates,
    ),
    bodies,
    st.booleans(),
    st.sampled_from(["auto", "json", "status", "text:ok"]),
)
def test_the_judgement_is_total(
    status: int, named: dict[str, str], body: bytes, complete: bool, accept: str
) -> None:
    error = judge(HttpAnswer(status, named, body, complete), KEY, NOW_NS, accept, SENT)
    assert error is None or isinstance(error, (SinkUnavailable, SinkRefused))
    if error is None:
        assert 200 <= status < 300
    if isinstance(error, SinkRefused):
        assert set(error.records) < {1, 2, 3}


def test_what_is_read_of_an_answer_goes_with_what_was_sent() -> None:
    assert answer_bytes_max(1, 100) < 300_000
    # Elasticsearch's result has some 300 bytes; an API that repeats everything has it all.
    assert answer_bytes_max(2000, 100_000) > 2000 * 1000 + 2 * 100_000
    assert answer_bytes_max(10_000, 1_000_000) == ANSWER_BYTES_MAX


def test_a_compressed_answer_is_unpacked_as_far_as_it_may_be_long() -> None:
    body = gzip.compress(b"[" + b" " * 300_000 + b"]")
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert judge(HttpAnswer(200, headers, body, most=400_000), KEY, NOW_NS) is None
    error = judge(HttpAnswer(200, headers, body, most=200_000), KEY, NOW_NS)
    assert isinstance(error, SinkUnavailable) and "longer than 200,000 bytes" in str(error)
